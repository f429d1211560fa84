/* What the tests, not the library, use of newer compilers and tcc lacks; given to it by -include. */
#ifndef PORTABLE_TCC_H
#define PORTABLE_TCC_H

#define __ATOMIC_SEQ_CST              5
#define __atomic_load_n(p, order)     (*(volatile int *)(p))
#define __atomic_store_n(p, v, order) ((void)(*(volatile int *)(p) = (v)))

typedef long double max_align_t;

#endif
