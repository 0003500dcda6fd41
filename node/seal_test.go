package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// secretive is a workload each part of which holds a marker of its own.
type secretive struct {
	spec    workload.Spec
	program []byte
	markers map[string]string // by what it is in
}

const bigOutput = 3 << 20 // more than rides in a result

func newSecretive(program string) *secretive {
	s := &secretive{spec: workload.DefaultSpec(), markers: map[string]string{}}
	mark := func(what string) string {
		s.markers[what] = fmt.Sprintf("%.8s%x", "mark"+what, seal.NewSalt()[:12])
		return s.markers[what]
	}
	s.program = []byte(fmt.Sprintf(program, mark("program"), mark("stdout"), mark("stderr"), mark("output"), mark("outname"), mark("big")))
	s.spec.Program = workload.Program{Kind: workload.Process, Name: mark("name")}
	s.spec.Args, s.spec.Env = []string{mark("argument")}, map[string]string{"SAY": mark("variable")}
	s.spec.Resources.Memory = 64 << 20
	s.spec.Where = `zone == "far"`
	return s
}

// sealedScript echoes what it was given and leaves outputs of every kind.
const sealedScript = `#!/bin/sh
: %s
cat .secrets/token data.txt - && echo "$1 $SAY"
echo %s
echo %s >&2
echo %s > "$PERRIN_OUT/small"
echo x > "$PERRIN_OUT/%s"
i=0; { echo %s; while [ $i -lt 3072 ]; do printf '%%1023s\n' x; i=$((i+1)); done; } > "$PERRIN_OUT/big"
`

// put uploads the parts, sealed where the spec is.
func (s *secretive) put(t *testing.T, b api.Backend) {
	t.Helper()
	upload := func(p []byte) workload.Ref {
		put := b.PutBlob
		if s.spec.Seal != nil {
			put = func(ctx context.Context, r io.Reader) (workload.Ref, error) {
				return b.PutSealed(ctx, s.spec.Seal.Salt, r)
			}
		}
		ref, err := put(t.Context(), bytes.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	text := func(what string) []byte {
		s.markers[what] = fmt.Sprintf("%.8s%x", "mark"+what, seal.NewSalt()[:12])
		return []byte(s.markers[what] + "\n")
	}
	s.spec.Program.Blob = upload(s.program)
	s.spec.Inputs = []workload.Input{{Path: "data.txt", Kind: workload.File, Blob: upload(text("input"))}}
	s.spec.Stdin = upload(text("stdin"))
	if s.spec.Seal != nil {
		s.spec.Secrets = []workload.Secret{{Name: "token", Data: text("secret")}}
	}
}

// marks adds the bytes of the content key to the markers, as they are and as text.
func (s *secretive) marks(t *testing.T, owner *Node) {
	t.Helper()
	k, err := owner.contentKey(s.spec.Seal.Salt)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	shares, err := k.Split(1, 1) // the one share of which one is needed is the key
	if err != nil {
		t.Fatal(err)
	}
	defer seal.CloseShares(shares)
	share, err := shares[0].Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key := share[1:]
	s.markers["content key"], s.markers["content key in hex"] = string(key), hex.EncodeToString(key)
	s.markers["content key in base64"] = base64.RawStdEncoding.EncodeToString(key)
}

// unlogged checks that nothing of a workload was logged by any node.
func (s *secretive) unlogged(t *testing.T, c *company) {
	t.Helper()
	for what, marker := range s.markers {
		if c.logs.has(marker) {
			t.Errorf("the %s was logged", what)
		}
	}
	if !testing.Verbose() && !c.logs.has("key of sealed work released") {
		t.Error("the logs say nothing of the release: what was searched?")
	}
}

// ended waits for a workload and returns it with its one task.
func ended(t *testing.T, b api.Backend, id workload.ID) (*api.Workload, api.Task) {
	t.Helper()
	return endedUnder(t.Context(), t, b, id)
}

// endedUnder is ended with what ctx carries.
func endedUnder(ctx context.Context, t *testing.T, b api.Backend, id workload.ID) (*api.Workload, api.Task) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for since := uint64(0); ; {
		w, err := b.Wait(ctx, id, since, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Phase.Ended() {
			since = w.Version
			continue
		}
		tasks, err := b.Tasks(ctx, id, 0, 1)
		if err != nil || len(tasks) != 1 || tasks[0].Result == nil {
			t.Fatalf("tasks: %v, %+v of %+v", err, tasks, w)
		}
		return w, tasks[0]
	}
}

// TestSealedWork runs the same program plain and sealed on another node than its
// owner's, and looks for each of its parts in everything that any node stored,
// and in everything that was said to or by a third.
func TestSealedWork(t *testing.T) {
	none := collect.Of()
	label := func(zone string) map[string]string { return map[string]string{"zone": zone} }
	c := startCompany(t,
		Config{Name: "owner", Cores: 1, Memory: 1 << 30, Labels: label("home"), Attests: none, Kinds: []workload.Kind{workload.Process}},
		Config{Name: "other", Cores: 1, Memory: 1 << 30, Labels: label("home"), Attests: none, Kinds: []workload.Kind{workload.Process}},
		Config{Name: "worker", Cores: 1, Memory: 1 << 30, Labels: label("far"), Attests: none, Kinds: []workload.Kind{workload.Process}},
	)
	owner, other, runs := c.nodes[0], c.nodes[1], c.nodes[2]
	b := owner.Backend()

	t.Run("plain work is found", func(t *testing.T) { // or the search finds nothing at all
		s := newSecretive(strings.Replace(sealedScript, ".secrets/token ", "", 1))
		s.put(t, b)
		sub, err := b.Submit(t.Context(), s.spec)
		if err != nil {
			t.Fatal(err)
		}
		if w, task := ended(t, b, sub.ID); w.Phase != workload.Succeeded {
			t.Fatalf("%s: %+v", w.Phase, task.Result)
		}
		stored := c.stored(t, s.markers)
		for what, marker := range s.markers {
			if len(c.heard(marker)) == 0 && len(stored[what]) == 0 {
				t.Errorf("the %s of plain work is nowhere", what)
			}
		}
		if len(c.heard(s.markers["argument"], owner.self, runs.self)) == 0 {
			t.Error("a third node heard nothing of plain work")
		}
	})

	s := newSecretive(sealedScript)
	s.spec.Seal = &workload.Seal{Salt: seal.NewSalt()}
	s.put(t, b)
	s.marks(t, owner)
	sub, err := b.Submit(t.Context(), s.spec)
	if err != nil {
		t.Fatal(err)
	}
	w, task := ended(t, b, sub.ID)
	if w.Phase != workload.Succeeded {
		t.Fatalf("%s: %+v", w.Phase, task.Result)
	}
	if len(w.Placed) != 1 || w.Placed[0].Node != runs.self {
		t.Fatalf("placed %+v, want the worker", w.Placed)
	}
	t.Run("its owner reads all of it", func(t *testing.T) {
		got := s.read(t, b, sub.ID, task.Result)
		for _, what := range []string{"secret", "input", "stdin", "argument", "variable", "stdout"} {
			if !strings.Contains(got["stdout"], s.markers[what]) {
				t.Errorf("the %s is not in what it printed: %.300q", what, got["stdout"])
			}
		}
		if !strings.Contains(got["stderr"], s.markers["stderr"]) || got["small"] != s.markers["output"]+"\n" || got[s.markers["outname"]] != "x\n" {
			t.Errorf("stderr %.300q, outputs %.300q", got["stderr"], got)
		}
		if big := got["big"]; len(big) < bigOutput || !strings.HasPrefix(big, s.markers["big"]) {
			t.Errorf("the big output has %d bytes and begins with %.60q", len(big), big)
		}
	})
	t.Run("no other node holds or heard any of it", func(t *testing.T) {
		for what, marker := range s.markers {
			if where := c.heard(marker, owner.self, runs.self); len(where) > 0 {
				t.Errorf("the %s was heard: %s", what, where)
			}
		}
		for what, where := range c.stored(t, s.markers) {
			t.Errorf("the %s is stored in %s", what, where)
		}
		for what := range s.markers {
			if where := c.heard(s.markers[what]); strings.HasPrefix(what, "content key") && len(where) > 0 {
				t.Errorf("the %s was heard, by whomever: %s", what, where)
			}
		}
		s.unlogged(t, c)
	})
	t.Run("no other node opens it", func(t *testing.T) {
		c.refusesOthers(t, other, sub.ID, task.Result)
	})
	t.Run("nothing is left in memory", func(t *testing.T) {
		until(t, "the folder in memory is empty", func() bool {
			for _, path := range memoryFoldersIn(runs) {
				if left, _ := os.ReadDir(path); len(left) > 0 {
					return false
				}
			}
			return true
		})
	})
}

// read returns what a result holds, by name.
func (s *secretive) read(t *testing.T, b api.Backend, id workload.ID, r *workload.TaskResult) map[string]string {
	t.Helper()
	get := func(data []byte, ref workload.Ref) string {
		if ref.IsZero() || len(data) > 0 {
			return string(data)
		}
		f, err := b.OpenOutput(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		all, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		return string(all)
	}
	got := map[string]string{"stdout": get(r.Stdout.Data, r.Stdout.Blob), "stderr": get(r.Stderr.Data, r.Stderr.Blob)}
	for _, o := range r.Outputs {
		got[o.Path] = get(o.Data, o.Blob)
	}
	return got
}

// refusesOthers asks for a result and for the key from a node that has no part in it.
func (c *company) refusesOthers(t *testing.T, other *Node, id workload.ID, r *workload.TaskResult) {
	tasks, err := other.Backend().Tasks(t.Context(), id, 0, 1)
	if err == nil && (len(tasks[0].Result.Outputs) > 0 || !strings.Contains(tasks[0].Result.Detail, "only its owner's node")) {
		t.Errorf("another node is shown %+v", tasks[0].Result)
	}
	for _, o := range r.Outputs {
		if o.Blob.IsZero() {
			continue
		}
		if f, err := other.Backend().OpenOutput(t.Context(), id, o.Blob); err == nil {
			t.Errorf("another node opens %s", o.Path)
			_ = f.Close()
		}
	}
	w, err := c.nodes[0].Backend().Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if w.Spec.Program.Name != "" || len(w.Spec.Args)+len(w.Spec.Env)+len(w.Spec.Inputs)+len(w.Spec.Secrets) > 0 {
		t.Errorf("the spec in the ledger shows %+v", w.Spec)
	}
}

// memoryFoldersIn are where a node's sealed work is while it runs.
func memoryFoldersIn(n *Node) []string {
	return worker.MemoryFolders(filepath.Join(n.cfg.Data, "slots"))
}

// TestSealedWorkOutlivesItsOwner takes the owner's node away while its sealed work
// runs, and then the node that runs it: two of three helpers have the next prove its
// machine and release the key to it, and the owner, back again, reads what came of it.
func TestSealedWorkOutlivesItsOwner(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("too long for a short run: a cell waits until it gives up a voter")
	}
	m := &madeUp{t: t, amd: attesttest.NewSEV(t, "Milan-B0", false), intel: attesttest.NewIntel(t)}
	cfg := func(name, zone string) Config {
		machine := collect.Of()
		if zone == "far" {
			machine = m.sev()
		}
		return Config{
			Name: name, Cores: 1, Memory: 1 << 30, Labels: map[string]string{"zone": zone}, Attests: machine, appraise: m.appraise,
			Runners: map[workload.Kind]runner.Runner{workload.Process: stubbornRunner{}}, LeaseTTL: 2 * time.Second,
		}
	}
	c := startCompany(t, cfg("owner", "home"), cfg("one", "home"), cfg("two", "home"), cfg("first", "far"), cfg("second", "far"))
	owner, helpers := c.nodes[0], c.nodes[1:4]
	for _, n := range c.nodes { // whoever leads appraises, and who releases
		m.lists(filepath.Join(n.cfg.Data, AttestFolder))
	}
	s := newSecretive(sealedScript)
	s.spec.Seal = &workload.Seal{Salt: seal.NewSalt(), Need: 2}
	s.spec.Require = &workload.Require{Level: workload.LevelSNP, MaxAge: time.Hour.Milliseconds()}
	s.marks(t, owner)
	for _, h := range helpers {
		s.spec.Seal.Helpers = append(s.spec.Seal.Helpers, h.self)
	}
	s.put(t, owner.Backend())
	sub, err := owner.Backend().Submit(t.Context(), s.spec)
	if err != nil {
		t.Fatal(err)
	}
	var begun bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := owner.Backend().Attach(ctx, sub.ID, api.AttachOptions{Follow: true, Stdout: &untilFirst{&begun, cancel}}); err == nil || !strings.HasPrefix(begun.String(), "begun") {
		t.Fatalf("it printed %q: %v", begun.String(), err)
	}
	runsOn := func(b api.Backend) workload.PeerID {
		tasks, err := b.Tasks(t.Context(), sub.ID, 0, 1)
		if err != nil || len(tasks) == 0 {
			return workload.PeerID{}
		}
		return tasks[0].Node
	}
	at := slices.IndexFunc(c.nodes, func(n *Node) bool { return n.self == runsOn(owner.Backend()) })
	if at < 3 {
		t.Fatalf("it runs on node %d", at)
	}
	made, err := owner.Backend().MakeToken(t.Context(), api.TokenOrder{To: helpers[0].self.String(), May: []rights.Capability{rights.Observe}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := rights.Parse(made.Text)
	if err != nil {
		t.Fatal(err)
	}
	c.stop[0]()
	b := c.nodes[1].Backend()
	until(t, "the cell has other voters", func() bool {
		st, err := b.Status(t.Context(), false)
		return err == nil && len(st.Cells) == 1 && len(st.Cells[0].Voters) == 3 && !slices.Contains(st.Cells[0].Voters, owner.self)
	})
	c.stop[at]()
	w, task := endedUnder(api.WithToken(t.Context(), token), t, b, sub.ID)
	next := c.nodes[7-at]
	if w.Phase != workload.Succeeded || task.Result.Attempt < 2 || task.Node != next.self {
		t.Fatalf("%s on %s, want %s: %+v", w.Phase, task.Node.Short(), next.self.Short(), task.Result)
	}
	asked := map[workload.PeerID]bool{}
	for _, told := range next.attestor.Told() {
		if told.Job == sub.ID && told.Kind == workload.LevelSNP {
			asked[told.To] = true
		}
	}
	for _, h := range helpers {
		if h != c.nodes[at] && !asked[h.self] {
			t.Errorf("%s released its share without evidence for this work", h.name)
		}
	}
	again := cfg("owner", "home")
	again.Data = owner.cfg.Data
	c.start(t, again)
	b = c.nodes[5].Backend()
	_, task = ended(t, b, sub.ID)
	if got := s.read(t, b, sub.ID, task.Result); !strings.Contains(got["stdout"], s.markers["secret"]) || len(got["big"]) < bigOutput {
		t.Errorf("its owner reads %.300q", got)
	}
	for what, where := range c.stored(t, s.markers) {
		t.Errorf("the %s is stored in %s", what, where)
	}
	for what, marker := range s.markers {
		if where := c.heardBy(marker, c.nodes[1], c.nodes[2]); len(where) > 0 {
			t.Errorf("the %s was heard: %s", what, where)
		}
	}
	s.unlogged(t, c)
}

// stubbornRunner shows a task's files on its stdout and as its output, and never
// ends the first attempt by itself.
type stubbornRunner struct{}

func (stubbornRunner) Kind() workload.Kind                   { return workload.Process }
func (stubbornRunner) Probe(context.Context) (string, error) { return runner.WallNamespaces, nil }
func (stubbornRunner) Available(*workload.Spec) error        { return nil }
func (stubbornRunner) Open(_ context.Context, s runner.Slot) (runner.Session, error) {
	return &stubbornSession{program: s.Program}, nil
}

type stubbornSession struct {
	nullSession
	program string
}

func (s *stubbornSession) Run(ctx context.Context, a runner.Attempt) (runner.Outcome, error) {
	out := runner.Outcome{Exit: workload.Exited, Wall: runner.WallNamespaces}
	if a.Number == 1 {
		_, err := io.WriteString(a.Stdout, "begun\n")
		<-ctx.Done()
		out.Exit = workload.StoppedExit
		return out, err
	}
	all, err := os.ReadFile(s.program)
	for _, m := range a.Mounts {
		more, err2 := os.ReadFile(m.Source)
		all, err = append(all, more...), errors.Join(err, err2)
	}
	_, printed := a.Stdout.Write(all)
	made := os.MkdirAll(a.Out, 0o755)
	wrote := os.WriteFile(filepath.Join(a.Out, "big"), append(all, make([]byte, bigOutput)...), 0o644)
	return out, errors.Join(err, printed, made, wrote)
}

// untilFirst ends what it is printed by with the first bytes.
type untilFirst struct {
	to  io.Writer
	end func()
}

// Write implements io.Writer.
func (f *untilFirst) Write(p []byte) (int, error) {
	defer f.end()
	return f.to.Write(p)
}

// TestProvenWork places work by what nodes prove, with a software TPM: not before
// its maker is trusted, with the reason in `why`; then fresh or remembered, and
// sealed, where the owner's node appraises too.
func TestProvenWork(t *testing.T) {
	chip, maker := attesttest.NewChip(t), attesttest.NewMaker(t, "Chips of Test")
	maker.Endorse(chip, time.Now().AddDate(1, 0, 0))
	runs := map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{"done\n"}}
	c := startCompany(t,
		Config{Name: "owner", Cores: 1, Memory: 1 << 30, Attests: collect.Of(), Runners: runs},
		Config{Name: "proven", Cores: 1, Memory: 1 << 30, Attests: collect.New(chip.Files(t.TempDir())), Runners: runs},
	)
	owner, proven := c.nodes[0], c.nodes[1]
	b := owner.Backend()
	spec := func(age time.Duration) workload.Spec {
		s := wasmSpec(t, owner, noop, 1)
		s.Require = &workload.Require{Level: workload.LevelTPM, MaxAge: age.Milliseconds()}
		return s
	}
	sub, err := b.Submit(t.Context(), spec(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"it has no tpm", "no TPM maker that is trusted here"} {
		until(t, "why says: "+says, func() bool {
			return strings.Contains(whyText(t, b, sub.ID), says)
		})
	}
	folder := filepath.Join(owner.cfg.Data, AttestFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	trust := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root.Raw})
	if err := os.WriteFile(filepath.Join(folder, "maker.pem"), trust, 0o600); err != nil {
		t.Fatal(err)
	}
	placed := func(id workload.ID) {
		t.Helper()
		if w, task := ended(t, b, id); w.Phase != workload.Succeeded || task.Node != proven.self {
			t.Errorf("%s on %s: %+v", w.Phase, task.Node.Short(), task.Result)
		}
	}
	placed(sub.ID)
	asked := func() int { return len(proven.attestor.Told()) }
	before := asked()
	for _, age := range []time.Duration{time.Hour, 0} {
		if sub, err = b.Submit(t.Context(), spec(age)); err != nil {
			t.Fatal(err)
		}
		placed(sub.ID)
		provedIn(t, c, sub.ID, workload.LevelTPM)
		if age > 0 && asked() != before {
			t.Error("evidence that is young enough was asked for again")
		}
		if age == 0 && (asked() == before || proven.attestor.Told()[0].Job != sub.ID) {
			t.Errorf("no fresh evidence was made for the workload: %+v", proven.attestor.Told())
		}
	}
	before = asked()
	s := spec(time.Hour)
	s.Seal = &workload.Seal{Salt: seal.NewSalt()}
	if s.Program.Blob, err = b.PutSealed(t.Context(), s.Seal.Salt, bytes.NewReader(noop)); err != nil {
		t.Fatal(err)
	}
	if sub, err = b.Submit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	placed(sub.ID)
	if told := proven.attestor.Told()[0]; asked() == before || told.Job != sub.ID || told.To != owner.self {
		t.Errorf("the key was released without evidence for it: %+v", told)
	}
	t.Run("measurements", func(t *testing.T) {
		s := spec(time.Hour)
		s.Require.Measurements = []string{"pcr7=" + strings.Repeat("ab", 32)}
		sub, err := b.Submit(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "why says what was measured", func() bool {
			return strings.Contains(whyText(t, b, sub.ID), "its pcr7 is not one that is wanted")
		})
		if err := b.Stop(t.Context(), sub.ID); err != nil {
			t.Error(err)
		}
	})
}

// whyText is all that `perrin why` knows of a workload.
func whyText(t *testing.T, b api.Backend, id workload.ID) string {
	t.Helper()
	why, err := b.Why(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(why)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
