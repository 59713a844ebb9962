$client = [System.Net.WebClient] $text
