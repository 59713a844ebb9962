$list = New-Object -TypeName System.Net.Http.HttpClient
