$block = [scriptblock] $text
