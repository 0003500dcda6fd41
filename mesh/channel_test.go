package mesh

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// TestChannelIsTheSameAtBothEnds exports the secret of a connection at both of
// its ends; another connection has another one, and the node itself none.
func TestChannelIsTheSameAtBothEnds(t *testing.T) {
	exported := func() []byte {
		a, b := pair(t)
		far := make(chan []byte, 1)
		b.HandleStream("/test/channel/1", func(_ context.Context, _ workload.PeerID, s Stream) {
			far <- ChannelOf(s)
			_ = s.Close()
		})
		s, err := a.OpenStream(within(t, 30*time.Second), b.ID(), "/test/channel/1")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		near := ChannelOf(s)
		if got := <-far; len(near) != 32 || !bytes.Equal(near, got) {
			t.Errorf("exported %x here and %x there", near, got)
		}
		return near
	}
	if one, two := exported(), exported(); bytes.Equal(one, two) {
		t.Error("two connections export the same")
	}
	a, _ := pair(t)
	a.HandleStream("/test/channel/1", func(_ context.Context, _ workload.PeerID, s Stream) { _ = s.Close() })
	s, err := a.OpenStream(within(t, 30*time.Second), a.ID(), "/test/channel/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if c := ChannelOf(s); c != nil {
		t.Errorf("to itself: %x", c)
	}
}
