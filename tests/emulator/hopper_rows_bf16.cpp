#define ELEMENT bf16
#define ADD_ROWS add_hopper_rows_bf16
#include "hopper_rows.inc"
