package wasm

import (
	"bufio"
	"net"
	"testing"
)

// serveOnce answers the first request on a new unix socket and no other.
func serveOnce(t *testing.T, path, answer string) string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			_, _ = c.Write([]byte(answer))
		}
	}()
	return path
}
