#define ELEMENT bf16
#define TYPE "bf16"
#define ADD add_flash_bf16
#include "flash_launchers.inc"
