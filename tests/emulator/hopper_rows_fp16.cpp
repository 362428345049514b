#define ELEMENT fp16
#define ELEMENT_TYPE reference::Type::f16
#define ADD_ROWS add_hopper_rows_fp16
#include "hopper_rows.inc"
