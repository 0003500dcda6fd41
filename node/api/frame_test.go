package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzFrames holds that no bytes from a client make the daemon keep more than
// the credit it gave, and that what is accepted arrives in order.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x02hi\x02\x00\x00\x00\x00"))
	f.Add([]byte("\x01\xff\xff\xff\xffx"))
	f.Add([]byte("\x01\x00\x00\x80\x00"))
	f.Add([]byte("\x07\x00\x00\x00\x04\x00\x00\x00\x01"))
	f.Add(bytes.Repeat([]byte("\x01\x00\x00\x00\x01a"), 300))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newInbox(func(int) error { return nil })
		err := receiveInput(bufio.NewReader(bytes.NewReader(data)), in)
		if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errFrame) {
			t.Fatalf("ended with %v", err)
		}
		if len(in.buf) > initialCredit || len(in.buf) > len(data) || in.credit < 0 {
			t.Fatalf("kept %d bytes of %d with %d credit left", len(in.buf), len(data), in.credit)
		}
		in.close(err)
		want := bytes.Clone(in.buf)
		if got, _ := io.ReadAll(in); !bytes.Equal(got, want) {
			t.Fatalf("read %q, want %q", got, want)
		}
	})
}
