package consensus

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"pgregory.net/rapid"
)

// What is written is what is read, however it is cut up, and a write that
// repeats the last one costs a byte.
func TestRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near, far := net.Pipe()
		counted := &counting{Conn: near}
		w, r := newRepeat(counted), newRepeat(far)
		some := [][]byte{bytes.Repeat([]byte("heartbeat"), 30), []byte("x"), bytes.Repeat([]byte("e"), repeatMost), bytes.Repeat([]byte("long"), repeatMost)}
		picks := rapid.SliceOfN(rapid.IntRange(0, len(some)-1), 1, 30).Draw(t, "writes")
		var want []byte
		least := 0
		for i, k := range picks {
			want = append(want, some[k]...)
			if least++; i == 0 || picks[i-1] != k || len(some[k]) > repeatMost {
				least += len(some[k])
			}
		}
		go func() {
			defer near.Close()
			for _, k := range picks {
				if n, err := w.Write(some[k]); err != nil || n != len(some[k]) {
					panic(err)
				}
			}
		}()
		var got []byte
		buf := make([]byte, rapid.IntRange(1, 3000).Draw(t, "buffer"))
		for {
			n, err := r.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes, want %d", len(got), len(want))
		}
		if counted.n > least+2*len(picks) {
			t.Errorf("%d bytes on the wire for %v, want about %d", counted.n, picks, least)
		}
	})
}

type counting struct {
	net.Conn
	n int
}

func (c *counting) Write(p []byte) (int, error) {
	c.n += len(p)
	return c.Conn.Write(p)
}

func FuzzRepeat(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{3, 'a', 'b', 'c', 0, 0, 1, 'x', 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		near, far := net.Pipe()
		go func() {
			defer near.Close()
			_, _ = near.Write(raw) // the reader may have had enough
		}()
		defer far.Close()
		n, err := io.Copy(io.Discard, newRepeat(far))
		if n > int64(len(raw))*repeatMost || err != nil && !errors.Is(err, ErrMalformed) && err != io.ErrUnexpectedEOF && err.Error() != "binary: varint overflows a 64-bit integer" {
			t.Errorf("%d bytes of %d, %v", n, len(raw), err)
		}
	})
}
