package external

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// TestMain is also the process of a policy, when its first argument says which.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "policy" {
		play(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// play is a policy that calls the first node, but for what a test wants it to do at
// its third question.
func play(does string) {
	in := bufio.NewReader(os.Stdin)
	for n := 0; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var q Question
		if err := json.Unmarshal(line, &q); err != nil {
			fmt.Fprintln(os.Stderr, "cannot read", err)
			os.Exit(1)
		}
		switch {
		case n == 0 && does == "future":
			fmt.Println(`{"version":2}`)
		case n == 0:
			fmt.Println(`{"version":1}`)
		case n == 3 && does == "hang":
			forever()
		case n == 3 && does == "deaf":
			os.Stdin.Close()
			os.Stdout.Close()
			forever()
		case n == 3 && does == "die":
			fmt.Fprintln(os.Stderr, "no more")
			os.Exit(7)
		case n == 3 && does == "talk":
			fmt.Println("looking at the nodes")
		case n == 3 && does == "stray":
			fmt.Printf(`{"id":%d,"call":[-5]}`+"\n", q.ID)
		case n == 3 && does == "twice":
			fmt.Printf(`{"id":%d,"call":[%d,%d]}`+"\n", q.ID, q.Nodes[0].Node, q.Nodes[0].Node)
		case n == 3 && does == "late":
			fmt.Printf(`{"id":%d,"call":[]}`+"\n", q.ID-1)
		case n == 3 && does == "long":
			fmt.Println(strings.Repeat("x", maxAnswer+1))
		case n == 3 && does == "wait":
			fmt.Printf(`{"id":%d,"call":[]}`+"\n", q.ID)
		default:
			fmt.Printf(`{"id":%d,"call":[%d]}`+"\n", q.ID, q.Nodes[0].Node)
		}
	}
}

// forever waits for a signal that nobody sends.
func forever() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

const small = `
duration: 2s
peers: 12
machines: [{cores: 4}]
workloads: [{poisson: 20/s, service: 300ms}]
policy: {name: own, command: COMMAND, timeout: TIMEOUT}
`

func own(t *testing.T, does, timeout string) *scenario.Scenario {
	t.Helper()
	self, err := filepath.EvalSymlinks(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Parse("own", []byte(strings.NewReplacer("COMMAND", self+" policy "+does, "TIMEOUT", timeout).Replace(small)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drive runs a replication to its end.
func drive(t *testing.T, ctx context.Context, s *scenario.Scenario) (trace uint64, placed float64, err error) {
	t.Helper()
	w, end, err := World(ctx, s, chance.Seed(3))
	if err != nil {
		return 0, 0, err
	}
	defer end()
	for w.Step() {
	}
	for _, f := range w.Result().Figures {
		if f.Name == "placed" {
			placed = f.Value
		}
	}
	return w.Trace(), placed, w.Err()
}

// TestProcessDecides runs a scenario twice under a process, which comes to the
// same, and once under one that answers otherwise, which does not.
func TestProcessDecides(t *testing.T) {
	s := own(t, "well", "1m")
	first, placed, err := drive(t, t.Context(), s)
	if err != nil || placed < 10 {
		t.Fatalf("%v slots placed: %v", placed, err)
	}
	if again, _, err := drive(t, t.Context(), s); err != nil || again != first {
		t.Errorf("twice the same policy: traces %x and %x, %v", first, again, err)
	}
	if other, placed, err := drive(t, t.Context(), own(t, "wait", "1m")); err != nil || other == first || placed < 10 {
		t.Errorf("an answer to wait: trace %x as before, %v slots, %v", other, placed, err)
	}
}

// TestProcessFails wants the line and the reason of everything that can be wrong.
func TestProcessFails(t *testing.T) {
	for does, want := range map[string]string{
		"hang":   "answer to line 4: there is none after 300ms",
		"deaf":   "answer to line 4: it ended: signal: killed",
		"die":    `answer to line 4: it ended: exit status 7; the end of its standard error: "no more"`,
		"talk":   `answer to line 4: not what the protocol has: invalid character 'l' looking for beginning of value: it wrote "looking at the nodes"`,
		"stray":  "answer to line 4: it calls node -5, which was not among the nodes of the question",
		"twice":  "it calls node 0 twice",
		"late":   "answer to line 4: it is for question 2, this was question 3",
		"long":   "answer to line 4: the line is longer than 65536 bytes",
		"future": "answer to line 1: it speaks version 2 of the protocol, this is version 1",
	} {
		timeout := "1m"
		if does == "hang" {
			timeout = "300ms"
		}
		_, _, err := drive(t, t.Context(), own(t, does, timeout))
		var broken *Broken
		if does == "hang" && errors.As(err, &broken) && broken.Line < 4 {
			continue // a machine on which even its first answers took that long
		}
		if !errors.As(err, &broken) || !strings.Contains(err.Error(), want) && !(does == "twice" && strings.Contains(err.Error(), "twice")) {
			t.Errorf("%s: %v, want %q", does, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := drive(t, ctx, own(t, "hang", "1m")); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that was interrupted: %v", err)
	}
	s := own(t, "well", "1m")
	s.Policy.Command = "/nowhere/at-all"
	if _, _, err := drive(t, t.Context(), s); err == nil || !strings.Contains(err.Error(), `policy "/nowhere/at-all" cannot be started`) {
		t.Errorf("a command that there is not: %v", err)
	}
}

// TestIdentify wants another hash after a change to a file that the command names.
func TestIdentify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.py")
	s := own(t, "well", "1m")
	s.Policy.Command = "python3 " + file
	hash := func(text string) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Identify(s); err != nil {
			t.Fatal(err)
		}
		return s.Hash()
	}
	if a, b, c := hash("one"), hash("two"), hash("one"); a == b || a != c {
		t.Errorf("hashes %s, %s and %s", a, b, c)
	}
	s.Policy.Name = scenario.Perrin
	s.Policy.Program = ""
	if err := Identify(s); err != nil || s.Policy.Program != "" {
		t.Errorf("a policy without a process has program %q, %v", s.Policy.Program, err)
	}
}

// FuzzAnswer has lines of a process give picks of the question or an error.
func FuzzAnswer(f *testing.F) {
	for _, line := range []string{`{"id":3,"call":[7,9]}`, `{"id":3,"call":[]}`, `{"id":3,"call":[7,7]}`, `{"id":4}`, `{"version":1}`, `[]`, ``, `{"id":3,"call":[8]}{}`} {
		f.Add([]byte(line))
	}
	q := &Question{ID: 3, Nodes: []Node{{Node: 7}, {Node: 8}, {Node: 9}}}
	f.Fuzz(func(t *testing.T, line []byte) {
		picked, err := readAnswer(line, q)
		if err != nil && picked != nil {
			t.Fatalf("picks %v and error %v", picked, err)
		}
		seen := map[int]bool{}
		for _, i := range picked {
			if i < 0 || i >= len(q.Nodes) || seen[i] {
				t.Fatalf("picks %v of 3", picked)
			}
			seen[i] = true
		}
		_ = readReady(line)
	})
}
