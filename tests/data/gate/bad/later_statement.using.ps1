using namespace System.IO
$name = 'a'
