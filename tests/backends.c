/* Prints the backends compiled in, best first, one a line: the list that the test run goes by. */
#include "../reactor.h"

#include <stdio.h>

int main(void) {
    for (int i = 0; reactor_backend_name(i); i++) puts(reactor_backend_name(i));
    return 0;
}
