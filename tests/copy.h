/* What copy.c can do with a loop of its own copy of the library. */
#ifndef COPY_H
#define COPY_H
typedef struct copy copy;
copy *copy_open(const char *backend);        /* NULL: no such backend */
int copy_watch(copy *c, int signum, int on); /* as reactor_signal */
int copy_heard(copy *c);                     /* how many signals it has heard so far */
void copy_close(copy *c);
#endif
