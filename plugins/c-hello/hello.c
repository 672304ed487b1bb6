/* Says what changed: plugins/hello, in C, as a program for WASI's first preview.
 *
 *     plugins/c-hello/build.sh c-hello.wasm
 *
 *     RegisterWatch(
 *         znode = "/app/config",
 *         action = Wasm("/usr/lib/twitcher/c-hello.wasm", args = ["good morning"]),
 *         uid = "nobody",
 *     )
 *
 * A program has the data on its stdin and its arguments and environment as granted. Its output is in the daemon's log, line by line;
 * its exit code is the outcome, which `on_failure = Retry(codes = [75])` and the like can tell apart.
 */

#include <stdio.h>

/* Of sysexits.h: data that is not right stays so when the action is run again, a failed read may not. */
enum { EX_DATAERR = 65, EX_TEMPFAIL = 75 };

int main(int argc, char **argv) {
    const char *greeting = argc > 1 ? argv[1] : "hello";
    size_t bytes = 0, lines = 0;
    for (int c; (c = getchar()) != EOF; bytes++) {
        if (c == '\0') {
            fprintf(stderr, "the znode's data: byte %zu is NUL, and text was expected\n", bytes);
            return EX_DATAERR;
        }
        lines += c == '\n';
    }
    if (ferror(stdin)) {
        perror("stdin");
        return EX_TEMPFAIL;
    }
    printf("%s bytes=%zu lines=%zu\n", greeting, bytes, lines);
    return 0;
}
