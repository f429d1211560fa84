/* Prints the backends compiled in, best first, one a line: the list that the test run goes by. Behind
   the name of one that this machine refuses is why. */
#include "../reactor.h"

#include <stdio.h>

int main(void) {
    for (int i = 0; reactor_backend_name(i); i++) {
        reactor_options o = {0};
        reactor *r;
        o.backend = reactor_backend_name(i);
        int e = reactor_create(&r, &o);
        printf("%s%s%s\n", o.backend, e < 0 ? " " : "", e < 0 ? reactor_strerror(e) : "");
        if (e == 0) reactor_destroy(r);
    }
    return 0;
}
