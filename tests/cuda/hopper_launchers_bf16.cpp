#define ELEMENT bf16
#define TYPE "bf16"
#define ADD add_hopper_bf16
#include "hopper_launchers.inc"
