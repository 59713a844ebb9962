# wsusfix script: client
param($Parameters)
# What this machine's update agent is set to, and whether it would ask for the broken update; changes nothing.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$policy = $Parameters.policy_key
$automatic = $Parameters.automatic_key
$answer = @{
    script = 'client'
    computer_name = (Get-ComputerName)
    clock = (Get-Clock)
    server = [string] (Get-RegistryValue $policy $Parameters.server_value)
    uses_server = [string] (Get-RegistryValue $automatic $Parameters.uses_server_value)
    disabled = [string] (Get-RegistryValue $automatic $Parameters.disabled_value)
    policy_options = [string] (Get-RegistryValue $automatic $Parameters.options_value)
    own_options = [string] (Get-RegistryValue $Parameters.own_key $Parameters.options_value)
    service = [string] (Get-ServiceStatus $Parameters.service)
    office = $false
}
foreach ($key in @($Parameters.office_keys)) {
    if (Test-RegistryKey $key) {
        $answer.office = $true
    }
}

return $answer
