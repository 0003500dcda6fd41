package rehearsal

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stack"
)

// order is what a child is to play.
type order struct {
	Scenario    scenario.Scenario
	Replication int    // from 0
	Dir         string // for the disks
}

// news is what a child says on its pipe: how far it is, or that it is over.
type news struct {
	Now    int64 // simulated ns
	Result *Result
	Err    string
}

// Result is a replication that was played.
type Result struct {
	model.Result
	Leader int   // the peer that led the cell
	Voters []int // the peers that voted

	Traffic model.Traffic // after the warm-up
	Placed  uint64        // slots, likewise
}

// pipe is the file that a child finds open for its news.
const pipe = 3

// Main plays the order that it reads from orders and says on the open file number 3
// what comes of it. It is the whole life of the process and does not return: virtual
// time is a test's, so the process becomes a test with one story.
func Main(orders io.Reader) {
	out := os.NewFile(pipe, "news")
	var o order
	if err := gob.NewDecoder(orders).Decode(&o); err != nil || out == nil {
		fmt.Fprintln(os.Stderr, "no order has come:", err)
		os.Exit(2)
	}
	enc := gob.NewEncoder(out)
	say := func(n news) {
		if enc.Encode(n) != nil {
			os.Exit(1) // nobody listens any more
		}
	}
	silence()
	os.Args = os.Args[:1] // the flags of package testing are nobody's
	everything := func(string, string) (bool, error) { return true, nil }
	testing.Main(everything, []testing.InternalTest{{Name: "rehearsal", F: func(t *testing.T) { o.story(t, say) }}}, nil, nil)
}

// story plays an order and says what comes of it.
func (o *order) story(t *testing.T, say func(news)) {
	s, err := write(&o.Scenario, o.Replication)
	if err != nil {
		say(news{Err: err.Error()})
		return
	}
	var r *Result
	synctest.Test(t, func(t *testing.T) {
		r, err = s.play(t.Context(), o.Dir, func(now time.Duration) { say(news{Now: int64(now)}) })
	})
	if err != nil {
		say(news{Err: err.Error()})
		return
	}
	say(news{Result: r})
}

// silence sends what package testing prints nowhere.
func silence() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stdout = null
	}
}

func (s *script) play(ctx context.Context, dir string, told func(time.Duration)) (*Result, error) {
	p, readings, err := s.perform(ctx, dir, told)
	if err != nil {
		return nil, err
	}
	out := &Result{Result: *p.result(readings), Leader: p.leader, Voters: p.voters, Placed: p.placedBetween(readings)}
	out.Traffic = model.Traffic{
		Messages: float64(p.messages(readings)), Bytes: float64(readings[1].bytes - readings[0].bytes),
		Peers: float64(p.sc.Peers) * readings[1].at.Sub(readings[0].at).Seconds(),
	}
	return out, nil
}

// Play plays a replication, counted from 0, of a scenario that Check has passed, in
// a process of its own: argv starts this program so that it calls Main. told is
// told of the simulated ns so far.
func Play(ctx context.Context, argv []string, sc *scenario.Scenario, n int, told func(int64)) (r *Result, err error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := stack.Folder()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	near, far, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer near.Close()
	in, orders := io.Pipe()
	defer in.Close()
	go func() { orders.CloseWithError(gob.NewEncoder(orders).Encode(order{*sc, n, dir})) }()
	child := exec.CommandContext(ctx, path)
	child.Args, child.Stdin, child.ExtraFiles = argv, in, []*os.File{far}
	said := &tail{}
	child.Stderr = said
	err = errors.Join(child.Start(), far.Close())
	if err != nil {
		return nil, err
	}
	r, err = listen(gob.NewDecoder(near), told)
	if over := child.Wait(); over != nil && r == nil && ctx.Err() == nil {
		err = fmt.Errorf("replication %d: %w: %w: %s", n+1, err, over, said.text())
	}
	return r, errors.Join(err, ctx.Err())
}

// listen waits for the end of a play.
func listen(dec *gob.Decoder, told func(int64)) (*Result, error) {
	for {
		var n news
		switch err := dec.Decode(&n); {
		case err != nil:
			return nil, fmt.Errorf("the process that plays it has ended: %w", err)
		case n.Err != "":
			return nil, errors.New(n.Err)
		case n.Result != nil:
			return n.Result, nil
		}
		told(n.Now)
	}
}

// tail keeps the end of what a child says to people, at most tailBytes.
type tail struct{ kept []byte }

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	return len(p), nil
}

func (t *tail) text() string { return string(t.kept) }
