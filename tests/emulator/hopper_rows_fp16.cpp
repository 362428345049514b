#define ELEMENT fp16
#define ADD_ROWS add_hopper_rows_fp16
#include "hopper_rows.inc"
