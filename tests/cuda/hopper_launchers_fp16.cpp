#define ELEMENT fp16
#define TYPE "fp16"
#define ADD add_hopper_fp16
#include "hopper_launchers.inc"
