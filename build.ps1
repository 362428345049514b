# The front door for PowerShell: the same commands as build.sh, which does the work. The native library exists for linux-x64, so Windows goes through WSL.
$ErrorActionPreference = 'Stop'
Set-Location $PSScriptRoot

if ($IsLinux) {
    & bash ./build.sh @args
}
elseif (Get-Command wsl.exe -ErrorAction SilentlyContinue) {
    & wsl.exe -- bash ./build.sh @args
}
else {
    [Console]::Error.WriteLine('build.ps1: the native library is built on Linux; install WSL with Debian 12 (wsl --install -d Debian) and run this again.')
    exit 2
}
exit $LASTEXITCODE
