"""The gate: what a script may not use, because PowerShell 2.0 and .NET 2.0 lack it or because it is a trap.

No PowerShell 2.0 is at hand where the scripts are written, so they are parsed with the grammar of a later one and
held to a short list of what they may use: commands, types, parameters.  Whatever is not listed is found.  The gate
knows the language; it knows neither what the scripts do nor how they are composed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import tree_sitter_pwsh
from tree_sitter import Language, Node, Parser

__all__ = ["COMMANDS", "COM_CLASSES", "LIMIT", "TYPES", "Finding", "findings", "parse", "type_names", "walk"]

#: A script of this many bytes is too long to be sent and staged at ease.
LIMIT: Final = 100_000

#: The commands that the scripts use; each is one of PowerShell 2.0's own, and none is known by an alias here.
COMMANDS: Final = frozenset(
    {
        "Export-Clixml",
        "Get-AuthenticodeSignature",
        "Get-Service",
        "Get-WmiObject",
        "Import-Clixml",
        "New-Object",
        "Sort-Object",
    }
)
#: The types that the scripts use; all are in .NET 2.0 but one, which is asked for only where that one is at hand.
TYPES: Final = frozenset(
    {
        "array",
        "bool",
        "byte[]",
        "char",
        "double",
        "int",
        "long",
        "string",
        "void",
        "Microsoft.UpdateServices.Administration.AdminProxy",  # of WSUS itself
        "Microsoft.UpdateServices.Administration.ComputerTargetGroupId",
        "Microsoft.UpdateServices.Administration.UpdateRevisionId",
        "Microsoft.UpdateServices.Administration.UpdateScope",
        "Microsoft.Win32.Registry",
        "System.Array",
        "System.BitConverter",
        "System.Convert",
        "System.Data.SqlClient.SqlConnection",
        "System.Data.SqlClient.SqlConnectionStringBuilder",
        "System.DateTime",
        "System.Diagnostics.EventLog",
        "System.Diagnostics.EventLogEntryType",
        "System.Diagnostics.FileVersionInfo",
        "System.Diagnostics.Process",
        "System.Diagnostics.ProcessStartInfo",
        "System.DirectoryServices.DirectoryEntry",
        "System.Environment",
        "System.Environment+SpecialFolder",
        "System.Globalization.CultureInfo",
        "System.Guid",
        "System.IO.BinaryReader",
        "System.IO.Directory",
        "System.IO.DriveInfo",
        "System.IO.File",
        "System.IO.FileAccess",
        "System.IO.FileAttributes",
        "System.IO.FileInfo",
        "System.IO.FileMode",
        "System.IO.FileOptions",
        "System.IO.FileShare",
        "System.IO.FileStream",
        "System.IO.Path",
        "System.IO.SeekOrigin",
        "System.Management.Automation.PowerShell",
        "System.Management.ManagementDateTimeConverter",
        "System.Math",
        "System.Net.Security.RemoteCertificateValidationCallback",
        "System.Net.Security.SslStream",
        "System.Net.Sockets.TcpClient",
        "System.Net.WebException",
        "System.Net.WebRequest",
        "System.Reflection.Assembly",
        "System.Runtime.InteropServices.Marshal",
        "System.Security.AccessControl.AccessControlType",
        "System.Security.AccessControl.DirectorySecurity",
        "System.Security.AccessControl.FileSystemAccessRule",
        "System.Security.AccessControl.FileSystemRights",
        "System.Security.AccessControl.InheritanceFlags",
        "System.Security.AccessControl.PropagationFlags",
        "System.Security.Cryptography.Oid",
        "System.Security.Cryptography.Pkcs.Pkcs9SigningTime",
        "System.Security.Cryptography.Pkcs.SignedCms",
        "System.Security.Cryptography.SHA256CryptoServiceProvider",  # .NET 3.5
        "System.Security.Cryptography.SHA256Managed",
        "System.Security.Cryptography.X509Certificates.X509Chain",
        "System.Security.Cryptography.X509Certificates.X509ChainStatusFlags",
        "System.Security.Cryptography.X509Certificates.X509RevocationFlag",
        "System.Security.Cryptography.X509Certificates.X509RevocationMode",
        "System.Security.Principal.SecurityIdentifier",
        "System.Security.Principal.WindowsIdentity",
        "System.Security.Principal.WindowsPrincipal",
        "System.StringComparer",
        "System.StringComparison",
        "System.Text.Encoding",
        "System.Text.RegularExpressions.Regex",
        "System.Text.UTF8Encoding",
        "System.Threading.Mutex",
        "System.Threading.Thread",
        "System.Threading.WaitHandleCannotBeOpenedException",
        "System.TimeSpan",
        "System.TimeZone",
        "System.ArgumentException",
        "System.UnauthorizedAccessException",
        "System.Uri",
        "System.Version",
    }
)
_KNOWN_TYPES: Final = frozenset(name.lower() for name in TYPES)
#: COM classes that may be made.
COM_CLASSES: Final = frozenset({"Schedule.Service"})

_LATER_COMMANDS: Final = re.compile(
    r"(ConvertTo|ConvertFrom)-Json|Invoke-(WebRequest|RestMethod)|(Get|New|Set|Remove)-Cim\w+|Invoke-CimMethod"
    r"|Get-FileHash|Unblock-File|\w+-ScheduledTask\w*|Get-NetAdapter|Compress-Archive|Expand-Archive",
    re.IGNORECASE,
)
_CODE_FROM_TEXT: Final = frozenset({"invoke-expression", "iex"})
_CODE_FROM_TEXT_TYPES: Final = frozenset({"scriptblock", "system.management.automation.scriptblock"})
_CODE_FROM_TEXT_MEMBERS: Final = frozenset({"invokescript", "newscriptblock", "addscript"})
_COMPILED: Final = frozenset({"add-type"})
_LATER_PARAMETERS: Final = {
    "get-content": {"-raw", "-tail"},
    "get-childitem": {"-file", "-directory", "-attributes", "-depth"},
    "export-csv": {"-append"},
    "start-process": {"-whatif"},
    "sort-object": {"-top", "-bottom", "-stable"},
    "select-object": {"-skiplast"},
    "out-file": {"-nonewline"},
    "set-content": {"-nonewline"},
}
_SIMPLIFIED: Final = frozenset({"where-object", "where", "?", "foreach-object", "foreach", "%"})
_LATER_TYPES: Final = frozenset({"pscustomobject", "ordered"})
_LATER_MEMBERS: Final = frozenset(
    {
        "new",
        "isnullorwhitespace",
        "readlines",
        "enumeratefiles",
        "enumeratedirectories",
        "enumeratefilesystementries",
        "is64bitprocess",
        "is64bitoperatingsystem",
        "openbasekey",
        "copyto",
        "hasflag",
    }
)
_LATER_OPERATORS: Final = frozenset(
    {"-in", "-notin", "-cin", "-cnotin", "-iin", "-inotin", "-shl", "-shr", "??", "??=", "?.", "?["}
)
_LATER_VARIABLES: Final = frozenset({"$psscriptroot", "$pscommandpath", "$psitem"})
_LATER_NODES: Final = {
    "ternary_expression": "later_operator",
    "null_coalesce_expression": "later_operator",
    "pipeline_chain_tail": "later_operator",
    "invocation_where_expression": "later_member",
    "invocation_foreach_expression": "later_member",
    "class_statement": "later_statement",
    "enum_statement": "later_statement",
    "using_statement": "later_statement",
    "parallel_statement": "later_statement",
    "sequence_statement": "later_statement",
    "inlinescript_statement": "later_statement",
    "foreach_parameter": "later_statement",
}
_COMPARISONS: Final = frozenset({"-eq", "-ne", "-ceq", "-cne", "-ieq", "-ine"})
_FUNCTION_NAME: Final = re.compile(r"[A-Z][A-Za-z]*-[A-Z][A-Za-z0-9]*")
_PARSER: Final = Parser(Language(tree_sitter_pwsh.language()))


@dataclass(frozen=True, order=True)
class Finding:
    """One thing a script may not use: where, by which rule, and what stands there."""

    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.rule}: {self.text}"


def parse(text: str) -> Node:
    """Return the root of the syntax tree of *text*."""
    return _PARSER.parse(text.encode("utf-8")).root_node


def walk(node: Node) -> Iterator[Node]:
    """Yield *node* and everything below it, in the order of the text."""
    yield node
    for child in node.children:
        yield from walk(child)


def findings(text: str, *, commands: frozenset[str] = COMMANDS) -> list[Finding]:
    """Return everything in *text* that may not be in a script, by line.

    Args:
        text: a composed script, or one file of several functions.
        commands: commands that may be used, besides the functions that *text* itself has.
    """
    root = parse(text)
    own = {_text(node) for node in walk(root) if node.type == "function_name"}
    allowed = frozenset(name.lower() for name in commands | own)
    found = {Finding(*finding) for finding in _of_text(text)}
    for node in walk(root):
        for rule in _RULES:
            found.update(Finding(node.start_point.row + 1, name, _line(node)) for name in rule(node, allowed))
    return sorted(found)


def type_names(node: Node) -> Iterator[str]:
    """Yield the names of the types that *node* itself names: a literal in brackets, or what New-Object is told."""
    if node.type == "type_literal" and (node.parent is None or node.parent.type != "type_spec"):
        yield "".join(_text(node)[1:-1].split())
    if node.type == "command" and _command(node) == "new-object":
        argument = _argument(node, "-typename")
        if argument is not None and _argument(node, "-comobject", named=True) is None:
            yield _text(argument).strip("'\"")


# --- rules over the text --------------------------------------------------------------------------------------------


def _of_text(text: str) -> Iterator[tuple[int, str, str]]:
    if len(text.encode("utf-8")) >= LIMIT:
        yield 1, "too_long", f"{len(text)} characters"
    for number, line in enumerate(text.split("\n"), 1):
        if not line.isascii():
            yield number, "not_ascii", line.strip()
        if re.match(r"\s*#requires\b", line, re.IGNORECASE):
            yield number, "requires", line.strip()


# --- rules over one node --------------------------------------------------------------------------------------------


def _syntax(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.is_error or node.is_missing:
        yield "syntax"


def _comments(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    """Comments are stripped by the line: one behind code or over several lines would stay, or break the code."""
    if node.type != "comment":
        return
    if _text(node).startswith("<#"):
        yield "block_comment"
    elif node.start_point.column and _before(node).strip():
        yield "comment_behind_code"


def _strings(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.type.endswith("here_string_literal") or node.type.endswith("here_string_characters"):
        yield "here_string"
    elif node.type == "string_literal" and node.start_point.row != node.end_point.row:
        if not any("here_string" in child.type for child in node.children):
            yield "multiline_string"
    if node.type == "expandable_string_literal" and re.search(r"(?<!`)(``)*`(u\{|e)", _text(node)):
        yield "later_escape"


def _later_syntax(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.type in _LATER_NODES:
        yield _LATER_NODES[node.type]
    elif not node.is_named and node.type.lower() in _LATER_OPERATORS:
        if node.parent is not None and node.parent.type not in _LATER_NODES:
            yield "later_operator"
    elif node.type == "variable":
        name = _text(node).lower()
        if name in _LATER_VARIABLES or name.startswith("$using:"):
            yield "later_variable"
    elif node.type == "attribute_argument" and "=" not in _text(node):
        yield "later_attribute"


def _traps(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.type == "comparison_expression":
        operator = next((child for child in node.children if child.type == "comparison_operator"), None)
        if operator is not None and _text(operator).lower() in _COMPARISONS:
            if _text(node.children[-1]).lower() == "$null":
                yield "null_on_the_right"
    if node.type == "additive_expression" and any(child.type == "array_literal_expression" for child in node.children):
        yield "comma_before_plus"
    if node.type == "key_expression" and _text(node).strip("'\"").lower() in {"count", "keys", "values"}:
        yield "key_of_the_table_itself"


def _functions(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.type != "function_statement":
        return
    name = next((child for child in node.children if child.type == "function_name"), None)
    if name is None or not _FUNCTION_NAME.fullmatch(_text(name)):
        yield "function_name"
    if node.start_point.column or node.parent is None or node.parent.parent is None or node.parent.parent.parent:
        yield "nested_function"
    first = next((child for child in walk(node) if child.type in {"param_block", "script_block_body"}), None)
    one_line = first is not None and first.start_point.row == node.start_point.row
    if one_line or node.end_point.column != 1:
        yield "one_line_function"


def _commands(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.type != "command":
        return
    if any(child.type == "command_invocation_operator" for child in node.children):
        yield "invocation"
        return
    name = _command(node)
    if "\\" in name or "/" in name or name.endswith(".exe"):
        yield "external_program"
    elif name in _CODE_FROM_TEXT:
        yield "code_from_text"
    elif name in _COMPILED:
        yield "compiled_source"
    elif _LATER_COMMANDS.fullmatch(name):
        yield "later_command"
    elif name not in allowed:
        yield "unknown_command"
    parameters = [_text(child).lower() for child in _elements(node) if child.type == "command_parameter"]
    if _LATER_PARAMETERS.get(name, set()) & set(parameters):
        yield "later_parameter"
    if name in _SIMPLIFIED and not any(child.type == "script_block_expression" for child in walk(node)):
        yield "simplified_block"
    if name == "new-object" and "-comobject" in parameters:
        argument = _argument(node, "-comobject", named=True)
        if argument is None or _text(argument).strip("'\"") not in COM_CLASSES:
            yield "unknown_com_class"


def _types(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    for name in type_names(node):
        if _attribute(node):
            continue
        if name.lower() in _LATER_TYPES:
            yield "later_type"
        elif name.lower() in _CODE_FROM_TEXT_TYPES:
            yield "code_from_text"
        elif name.lower() not in _KNOWN_TYPES:
            yield "unknown_type"


def _members(node: Node, allowed: frozenset[str]) -> Iterator[str]:
    if node.type not in {"invocation_expression", "member_access"}:
        return
    member = next((_text(child).lower() for child in node.children if child.type == "member_name"), "")
    arguments = [child for child in walk(node.children[-1]) if child.type == "argument_expression"]
    own = [child for child in arguments if _calls(child) == node]
    # A block that stands in the script may be given to another runspace as text; other text may not become code.
    of_a_block = member == "addscript" and own and re.fullmatch(r"\$\w+\.ToString\(\)", _text(own[0]))
    if member in _LATER_MEMBERS or (member == "combine" and len(own) > 2):
        yield "later_member"
    elif member in _CODE_FROM_TEXT_MEMBERS and not of_a_block:
        yield "code_from_text"


_RULES: Final[tuple[Callable[[Node, frozenset[str]], Iterator[str]], ...]] = (
    _syntax,
    _comments,
    _strings,
    _later_syntax,
    _traps,
    _functions,
    _commands,
    _types,
    _members,
)


# --- helpers --------------------------------------------------------------------------------------------------------


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8")


def _line(node: Node) -> str:
    return _text(node).split("\n", 1)[0][:120]


def _before(node: Node) -> str:
    """What stands before *node* on its line."""
    root = node
    while root.parent is not None:
        root = root.parent
    whole = root.text or b""
    start = node.start_byte - root.start_byte
    return whole[:start].decode("utf-8", "replace").rsplit("\n", 1)[-1]


def _command(node: Node) -> str:
    """The lower-case name of the command that *node* calls."""
    return next((_text(child).lower() for child in node.children if child.type == "command_name"), "")


def _elements(node: Node) -> list[Node]:
    """The words behind the name of the command *node*."""
    return [
        word
        for child in node.children
        if child.type == "command_elements"
        for word in child.children
        if word.type != "command_argument_sep"
    ]


def _argument(node: Node, parameter: str, *, named: bool = False) -> Node | None:
    """What a command is given for *parameter*: the word behind it, or else its first word."""
    words = _elements(node)
    for index, word in enumerate(words[:-1]):
        if _text(word).lower() == parameter:
            return words[index + 1]
    if named or not words or words[0].type == "command_parameter":
        return None
    return words[0]


def _attribute(node: Node) -> bool:
    """Whether the type named by *node* is an attribute's, which has its own list of what is known."""
    return node.parent is not None and node.parent.type == "attribute_name"


def _calls(argument: Node) -> Node | None:
    """The call that *argument* is an argument of."""
    node = argument.parent
    while node is not None and node.type != "invocation_expression":
        node = node.parent
    return node
