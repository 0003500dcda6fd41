//go:build wasip1

package main

import (
	"fmt"
	"os"
	"strings"
	"unsafe"
)

//go:wasmimport perrin call
func call(req unsafe.Pointer, reqLen uint32, resp unsafe.Pointer, respCap uint32) int32

var platform = map[string]func([]string) error{"unit": unit, "unit-small": unitSmall}

func ask(req string, size int) (string, int32) {
	in, out := []byte(req), make([]byte, size)
	n := call(unsafe.Pointer(&in[0]), uint32(len(in)), unsafe.Pointer(&out[0]), uint32(len(out)))
	if n < 0 {
		return "", n
	}
	return string(out[:n]), n
}

func unit(a []string) error {
	resp, n := ask(a[0]+" "+a[1]+"\n"+a[2], 4096)
	if n < 0 {
		return fmt.Errorf("call: %d", n)
	}
	status, body, _ := strings.Cut(resp, "\n")
	fmt.Fprintf(os.Stdout, "%s %s", status, body)
	return nil
}

// unitSmall asks with too little room and then with enough.
func unitSmall(a []string) error {
	_, need := ask(a[0]+" "+a[1]+"\n", 4)
	resp, n := ask(a[0]+" "+a[1]+"\n", int(-need))
	fmt.Println(need, n, strings.ReplaceAll(resp, "\n", " "))
	return nil
}
