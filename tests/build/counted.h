/* An allocator of one's own, for REACTOR_MALLOC and its two companions: counts, so that one can
   see that it is used for everything, and that everything comes back. It is included before the
   header, so it must include no system header that reads feature macros. */
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
void *counted_malloc(size_t size);
void *counted_realloc(void *old, size_t size);
void counted_free(void *memory);
extern long counted_live, counted_total;
#ifdef __cplusplus
}
#endif

#define REACTOR_MALLOC(size)       counted_malloc(size)
#define REACTOR_REALLOC(old, size) counted_realloc(old, size)
#define REACTOR_FREE(memory)       counted_free(memory)
