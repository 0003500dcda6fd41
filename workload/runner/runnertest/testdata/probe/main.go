// Command probe is the program that the runners' tests run: one verb, then its
// arguments. It is built for Linux and for WASI.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "no verb")
		os.Exit(99)
	}
	verb, args := os.Args[1], os.Args[2:]
	do, ok := verbs[verb]
	if !ok {
		do, ok = platform[verb]
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "no verb", verb)
		os.Exit(99)
	}
	if err := do(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var verbs = map[string]func([]string) error{
	"exit":  func(a []string) error { os.Exit(number(a[0])); return nil },
	"args":  func(a []string) error { fmt.Printf("%q\n", os.Args); return nil },
	"env":   func(a []string) error { fmt.Println(os.Getenv(a[0])); return nil },
	"cat":   func(a []string) error { _, err := io.Copy(os.Stdout, os.Stdin); return err },
	"both":  func(a []string) error { fmt.Fprint(os.Stdout, a[0]); fmt.Fprint(os.Stderr, a[1]); return nil },
	"read":  read,
	"ls":    list,
	"write": write,
	"many":  many,
	"alloc": alloc,
	"panic": func(a []string) error { panic("on purpose") },
	"spin": func(a []string) error {
		fmt.Println("ready")
		for {
		}
	},
	"sleep":   func(a []string) error { fmt.Println("ready"); time.Sleep(time.Hour); return nil },
	"flood":   flood,
	"symlink": func(a []string) error { return os.Symlink(a[0], a[1]) },
	"noop":    func(a []string) error { return nil },
	"escape":  escape,
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	return n
}

func read(a []string) error {
	b, err := os.ReadFile(a[0])
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b)
	return err
}

func list(a []string) error {
	return filepath.WalkDir(a[0], func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Println(p, d.Type().IsDir())
		return nil
	})
}

// write writes so many bytes to a file.
func write(a []string) error {
	if err := os.MkdirAll(filepath.Dir(a[0]), 0o755); err != nil {
		return err
	}
	return os.WriteFile(a[0], []byte(strings.Repeat("x", number(a[1]))), 0o644)
}

// many writes one MiB files until it has written so many and then waits.
func many(a []string) error {
	for i := range number(a[1]) {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", a[0], i), make([]byte, 1<<20), 0o644); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	time.Sleep(time.Hour)
	return nil
}

// alloc touches so many MiB.
func alloc(a []string) error {
	var keep [][]byte
	for range number(a[0]) {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	fmt.Println("allocated", len(keep))
	return nil
}

// flood writes so many MiB to stdout.
func flood(a []string) error {
	line := strings.Repeat("y", 1023) + "\n"
	for range number(a[0]) * 1024 {
		if _, err := os.Stdout.WriteString(line); err != nil {
			return err
		}
	}
	return nil
}
