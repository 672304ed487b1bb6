// Says what changed: plugins/hello, in standard Go, as a program for WASI's first preview.
//
//	plugins/go-hello/build.sh go-hello.wasm
//
//	RegisterWatch(
//	    znode = "/app/config",
//	    action = Wasm("/usr/lib/twitcher/go-hello.wasm", args = ["good morning"]),
//	    uid = "nobody",
//	)
//
// A program has the data on its stdin and its arguments and environment as granted. Its output is in the daemon's log, line by line;
// its exit code is the outcome, which `on_failure = Retry(codes = [75])` and the like can tell apart.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Of sysexits.h: data that is not right stays so when the action is run again, a failed read may not.
const (
	exDataErr  = 65
	exTempFail = 75
)

func main() {
	greeting := "hello"
	if len(os.Args) > 1 {
		greeting = os.Args[1]
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(exTempFail, err)
	}
	keys := map[string]any{}
	if len(data) > 0 && data[0] == '{' {
		if err := json.Unmarshal(data, &keys); err != nil {
			fail(exDataErr, fmt.Errorf("the znode's data: %w", err))
		}
	}
	fmt.Printf("%s bytes=%d keys=%d\n", greeting, len(data), len(keys))
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(code)
}
