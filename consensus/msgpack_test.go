package consensus

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// request is a request as the library sends it, with what follows it.
func request(t testing.TB, kind byte, v any, after ...byte) []byte {
	return slices.Concat([]byte{kind}, encoded(t, v), after)
}

func anInstall(size int64) *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{Term: 7, Leader: []byte("l"), Configuration: make([]byte, 300), Size: size}
}

// TestWalkerFollowsRequests walks whole streams in pieces of every length, and
// holds that what follows a snapshot is a request again.
func TestWalkerFollowsRequests(t *testing.T) {
	append1 := request(t, 0, &raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{{Index: 1, Data: make([]byte, 70000)}, {Index: 2}}})
	stream := slices.Concat(append1, request(t, 1, &raft.RequestVoteRequest{Term: 1}),
		request(t, installs, anInstall(5), 0xc6, 0xff, 0xff, 0xff, 0xff), append1, request(t, installs, anInstall(0)), append1)
	for _, step := range []int{1, 2, 3, 7, 4096, len(stream)} {
		w := walker{requests: true}
		for part := range slices.Chunk(stream, step) {
			if err := w.walk(part); err != nil {
				t.Fatalf("in pieces of %d: %v", step, err)
			}
		}
		if w.inside || w.raw != 0 || w.have != 0 {
			t.Errorf("in pieces of %d: it ends within a request: %+v", step, w)
		}
	}
	answers := slices.Concat(encoded(t, ""), encoded(t, &raft.AppendEntriesResponse{Term: 1}), encoded(t, "no"), encoded(t, &raft.RequestVoteResponse{}))
	if err := new(walker).walk(answers); err != nil {
		t.Errorf("answers: %v", err)
	}
}

func TestWalkerRefuses(t *testing.T) {
	bad := func(size ...byte) []byte { return slices.Concat([]byte{installs, 0x81, 0xa4}, []byte("Size"), size) }
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"a time of 4 GiB":        {slices.Concat([]byte{0, 0x81, 0xaa}, []byte("AppendedAt"), []byte{0xc6, 0xff, 0xff, 0xff, 0xff}), ErrTooLarge},
		"a long extension":       {[]byte{0, 0xc9, 0, 0, 1, 0, 5}, ErrTooLarge},
		"a long list":            {[]byte{0, 0xdd, 0, 1, 0, 1}, ErrTooLarge},
		"a long map":             {[]byte{0, 0xdf, 0xff, 0xff, 0xff, 0xff}, ErrTooLarge},
		"lists in lists":         {append([]byte{0}, bytes.Repeat([]byte{0x91}, maxNesting+1)...), ErrTooLarge},
		"no value":               {[]byte{0, 0xc1}, ErrMalformed},
		"a snapshot of a list":   {[]byte{installs, 0x91, 0x01}, ErrMalformed},
		"a negative size":        {bad(0xd0, 0xff), ErrMalformed},
		"a small negative size":  {bad(0xff), ErrMalformed},
		"a size that is nothing": {bad(0xc0), ErrMalformed},
		"a long name":            {slices.Concat([]byte{installs, 0x81, 0xd9, maxKey + 1}, make([]byte, maxKey+1)), ErrTooLarge},
	} {
		w := walker{requests: true}
		if err := w.walk(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzWalker holds that the walker and the library's codec agree where a request
// ends, in everything that both accept.
func FuzzWalker(f *testing.F) {
	f.Add(request(f, 0, &raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{{Index: 1, Data: []byte("x")}}}))
	f.Add(request(f, 1, &raft.RequestVoteRequest{Term: 1, LastLogIndex: 2}))
	f.Add(request(f, installs, anInstall(3), 1, 2, 3))
	f.Add([]byte{installs, 0x82, 0xa4, 'S', 'i', 'z', 'e', 0x05, 0xa4, 'S', 'i', 'z', 'e', 0xcd, 1, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := walker{requests: true}
		end := 0
		for end < len(raw) && (end == 0 || w.inside) {
			if w.walk(raw[end:end+1]) != nil {
				return
			}
			end++
		}
		if end == 0 || w.inside {
			return
		}
		var req any
		switch raw[0] {
		case 0:
			req = new(raft.AppendEntriesRequest)
		case 1:
			req = new(raft.RequestVoteRequest)
		case installs:
			req = new(raft.InstallSnapshotRequest)
		default:
			return
		}
		dec := codec.NewDecoder(bytes.NewReader(raw[1:]), &codec.MsgpackHandle{})
		if dec.Decode(req) != nil {
			return
		}
		if n := 1 + dec.NumBytesRead(); n != end {
			t.Fatalf("the walker ends after %d bytes, the codec after %d", end, n)
		}
		if in, ok := req.(*raft.InstallSnapshotRequest); ok && uint64(in.Size) != w.raw {
			t.Fatalf("the walker skips %d bytes, the codec %d", w.raw, in.Size)
		}
	})
}
