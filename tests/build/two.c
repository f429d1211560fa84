/* One program, two files that each hold the whole library as static functions. */
int first(void);
int second(void);

int main(void) {
    int e = first();
    return e ? e : second();
}
