#define ELEMENT bf16
#define ADD_ROWS add_flash_rows_bf16
#include "flash_rows.inc"
