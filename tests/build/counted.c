#include <stdlib.h>

#include "counted.h"

long counted_live, counted_total;

void *counted_malloc(size_t size) {
    counted_live++;
    counted_total++;
    return malloc(size);
}

void *counted_realloc(void *old, size_t size) {
    if (!old) return counted_malloc(size);
    return realloc(old, size);
}

void counted_free(void *memory) {
    if (!memory) return;
    counted_live--;
    free(memory);
}
