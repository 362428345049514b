#define ELEMENT fp16
#define TYPE "fp16"
#define ADD add_flash_fp16
#include "flash_launchers.inc"
