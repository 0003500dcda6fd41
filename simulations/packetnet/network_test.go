package packetnet

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	left  = netip.MustParseAddr("10.0.0.1")
	right = netip.MustParseAddr("10.0.1.1")
)

// pair is a network with a connection at each of two hosts.
func pair(t *testing.T, cfg Config) (n *Network, a, b *Conn) {
	t.Helper()
	n = New(cfg)
	t.Cleanup(n.Close)
	conns := [2]*Conn{}
	for i, ip := range []netip.Addr{left, right} {
		c, err := n.Listen(netip.AddrPortFrom(ip, 4001))
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	return n, conns[0], conns[1]
}

// burst sends count packets, each with its number, and returns what the other
// side reads until nothing has come for a minute, with how long each took.
func burst(t *testing.T, from, to *Conn, count int) (got []int, took []time.Duration) {
	t.Helper()
	began := time.Now()
	for i := range count {
		if _, err := from.WriteTo(fmt.Appendf(nil, "%d%998s", i, ""), to.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 2000)
	for {
		if err := to.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, addr, err := to.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got, took
		}
		if err != nil || addr.String() != from.LocalAddr().String() {
			t.Fatalf("read from %v: %v", addr, err)
		}
		var i int
		if _, err := fmt.Sscan(string(buf[:n]), &i); err != nil {
			t.Fatal(err)
		}
		got, took = append(got, i), append(took, time.Since(began))
	}
}

func TestPacketsTakeTheLatencyOfTheirPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, Config{Path: func(from, _ netip.Addr) Link {
			if from == left {
				return Link{Latency: 30 * time.Millisecond}
			}
			return Link{Latency: 50 * time.Millisecond}
		}})
		got, took := burst(t, a, b, 3)
		if !slices.Equal(got, []int{0, 1, 2}) || took[2] != 30*time.Millisecond {
			t.Errorf("there: %v after %v", got, took)
		}
		if _, took := burst(t, b, a, 1); took[0] != 50*time.Millisecond {
			t.Errorf("back: after %v", took)
		}
	})
}

func TestJitterLetsPacketsOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, Config{Path: func(_, _ netip.Addr) Link {
			return Link{Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}
		}})
		got, took := burst(t, a, b, 200)
		if len(got) != 200 || slices.IsSorted(got) {
			t.Errorf("%d packets, in the order sent: %t", len(got), slices.IsSorted(got))
		}
		if took[0] < 20*time.Millisecond || took[199] >= 30*time.Millisecond {
			t.Errorf("from %v to %v, want 20 to 30 ms", took[0], took[199])
		}
	})
}

// TestLossIsTheSameForASeed: the share is as asked for, and only the seed
// decides which packets it hits.
func TestLossIsTheSameForASeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(seed uint64) []int {
			n, a, b := pair(t, Config{Seed: seed, Path: func(_, _ netip.Addr) Link { return Link{Loss: 0.1} }})
			got, _ := burst(t, a, b, 4000)
			if s := n.Stats(); int(s.Lost) != 4000-len(got) || int(s.Delivered) != len(got) || s.Sent != 4000 {
				t.Errorf("%d came, counted %+v", len(got), s)
			}
			n.Close()
			return got
		}
		first := run(1)
		if share := float64(4000-len(first)) / 4000; math.Abs(share-0.1) > 0.02 {
			t.Errorf("%.3f lost, want 0.1", share)
		}
		if !slices.Equal(first, run(1)) {
			t.Error("the same seed lost other packets")
		}
		if slices.Equal(first, run(2)) {
			t.Error("another seed lost the same packets")
		}
	})
}

// TestALineIsSharedAndItsQueueIsBounded: 1000 bytes take 8 ms at 1 Mbit/s on
// each line, and 100 ms of waiting is 12 packets.
func TestALineIsSharedAndItsQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Config{Rate: 1_000_000})
		got, took := burst(t, a, b, 30)
		if len(got) != 13 || n.Stats().Dropped != 17 {
			t.Errorf("%d packets came, counted %+v", len(got), n.Stats())
		}
		for i, d := range took {
			if want := time.Duration(i+2) * 8 * time.Millisecond; d.Round(time.Millisecond) != want.Round(time.Millisecond) {
				t.Errorf("packet %d took %v, want %v", i, d, want)
			}
		}
	})
}

// TestACutGoesOneWayAndLosesWhatIsUnderWay.
func TestACutGoesOneWayAndLosesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Config{Path: func(_, _ netip.Addr) Link { return Link{Latency: 10 * time.Millisecond} }})
		time.AfterFunc(5*time.Millisecond, func() { n.Cut(func(from, _ netip.Addr) bool { return from == left }) })
		if got, _ := burst(t, a, b, 2); len(got) != 0 {
			t.Errorf("%v came through", got)
		}
		if got, _ := burst(t, b, a, 2); len(got) != 2 {
			t.Errorf("%v came the other way, want both", got)
		}
		n.Cut(nil)
		if got, _ := burst(t, a, b, 2); len(got) != 2 || n.Stats().Cut != 2 {
			t.Errorf("%v came after it had healed, counted %+v", got, n.Stats())
		}
	})
}

func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Config{})
		if _, err := n.Listen(a.at); !errors.Is(err, ErrAddressInUse) {
			t.Errorf("listen twice: %v", err)
		}
		open, err := n.Host(right)(&net.UDPAddr{IP: net.IPv4zero})
		if err != nil || open.LocalAddr().(*net.UDPAddr).AddrPort().Addr() != right {
			t.Errorf("an open address is %v, %v", open, err)
		}
		if _, err := n.Host(right)(net.UDPAddrFromAddrPort(a.at)); err == nil {
			t.Error("a host listens on another's address")
		}
		reading := make(chan error)
		go func() {
			_, _, err := b.ReadFrom(make([]byte, 1))
			reading <- err
		}()
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := <-reading; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read from a closed connection: %v", err)
		}
		if _, err := a.WriteTo([]byte("x"), b.LocalAddr()); err != nil {
			t.Errorf("nobody tells the sender: %v", err)
		}
		synctest.Wait()
		if n.Stats().Unheard != 1 {
			t.Errorf("counted %+v", n.Stats())
		}
		n.Close()
		if _, err := n.Listen(b.at); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen on a closed network: %v", err)
		}
	})
}
