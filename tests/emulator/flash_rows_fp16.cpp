#define ELEMENT fp16
#define ADD_ROWS add_flash_rows_fp16
#include "flash_rows.inc"
