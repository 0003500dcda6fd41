package notary

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

func TestWholeReceiptHolds(t *testing.T) {
	m := make3(t, 5, 2, time.Now())
	r := verified(t, m.file().Encode(), m.options())
	if r.Status() != receipt.Holds || len(r.Links) != 15 || r.Root != meshtest.IDOf(m.mesh.Root) || r.Owner != meshtest.IDOf(m.owner) {
		t.Errorf("%s: %+v", r.Status(), r.Links)
	}
	r = verified(t, m.file().Encode(), receipt.Options{})
	if r.Status() != receipt.Unchecked || !strings.Contains(r.Links[1].Detail, "--root") {
		t.Errorf("without a root: %s: %+v", r.Status(), r.Links[1])
	}
}

// TestEveryByteCounts flips every seventh byte of a receipt (all of them take half a
// minute): it is refused as malformed, or
// a link that has a name fails.
func TestEveryByteCounts(t *testing.T) {
	everyByteCounts(t, make3(t, 2, 1, time.Now()), 7)
}

func everyByteCounts(t *testing.T, m *made, step int) {
	t.Helper()
	var compact bytes.Buffer
	if err := json.Compact(&compact, m.file().Encode()); err != nil {
		t.Fatal(err)
	}
	read := 0
	if testing.Short() {
		step = 61
	}
	rules, opt := Rules(workload.NewMemo()), m.options() // remembers what held, and only that
	links := map[string]bool{}
	for i := 0; i < compact.Len(); i += step {
		bad := bytes.Clone(compact.Bytes())
		bad[i] ^= 1
		r, err := receipt.Verify(rules, bad, opt)
		switch {
		case err != nil && !errors.Is(err, receipt.ErrMalformed):
			t.Fatalf("byte %d: %v", i, err)
		case err != nil:
		case r.Status() != receipt.Fails:
			t.Errorf("byte %d, %q to %q, changes nothing: %+v", i, compact.Bytes()[i], bad[i], r.Links)
		default:
			read++
			for _, name := range failing(r) {
				links[name] = true
			}
		}
	}
	t.Logf("%d bytes, %d changed receipts still read; links that failed: %v", compact.Len(), read, links)
	if read < 30 || len(links) < 3 {
		t.Errorf("only %d changed receipts were readable, and %d links failed", read, len(links))
	}
}

// TestChangesByOneWhoCannotSign are changes to the file alone.
func TestChangesByOneWhoCannotSign(t *testing.T) {
	m, other := make3(t, 4, 2, time.Now()), make3(t, 4, 2, time.Now())
	sameMesh := *m
	sameMesh.segments = nil
	sameMesh.rec.Cost = 0
	sameMesh.results(4, 1, time.Now())
	tests := map[string]struct {
		change func(*receipt.Receipt)
		link   string
	}{
		"no signature":                     {func(f *receipt.Receipt) { f.Signatures = nil }, "envelope"},
		"no majority":                      {func(f *receipt.Receipt) { f.Signatures = f.Signatures[:1] }, "cell's statement"},
		"one voter twice":                  {func(f *receipt.Receipt) { f.Signatures[1] = f.Signatures[0] }, "envelope"},
		"another receipt's signature":      {func(f *receipt.Receipt) { f.Signatures[0] = other.file().Signatures[0] }, "envelope"},
		"a certificate of another mesh":    {func(f *receipt.Receipt) { f.Certificates[0] = other.certs[0] }, "certificates"},
		"a segment missing":                {func(f *receipt.Receipt) { f.Segments = f.Segments[1:] }, "envelope"},
		"segments in another order":        {func(f *receipt.Receipt) { slices.Reverse(f.Segments) }, "envelope"},
		"another receipt's segment":        {func(f *receipt.Receipt) { f.Segments[0] = other.segments[0] }, "envelope"},
		"results of another segment":       {func(f *receipt.Receipt) { f.Segments[0].Results = f.Segments[1].Results }, "outputs"},
		"another segment of the same mesh": {func(f *receipt.Receipt) { f.Segments[0] = sameMesh.segments[0] }, "envelope"},
		"another receipt's statement":      {func(f *receipt.Receipt) { f.Payload = other.file().Payload }, "envelope"},
	}
	for name, tt := range tests {
		f := m.file()
		f.Certificates, f.Segments = slices.Clone(f.Certificates), slices.Clone(f.Segments)
		tt.change(f)
		if r := verified(t, f.Encode(), m.options()); !slices.Contains(failing(r), tt.link) {
			t.Errorf("%s: failing %q, want %q among them: %+v", name, failing(r), tt.link, r.Links)
		}
	}
}

// TestChangesByAWholeCell are changes that every voter signs: what others signed
// still shows them.
func TestChangesByAWholeCell(t *testing.T) {
	forged := func(a *receipt.Award, i int) workload.Bid {
		var bid workload.Bid
		if err := wire.Unmarshal(a.Bids[i].Payload, &bid); err != nil {
			t.Fatal(err)
		}
		return bid
	}
	other := make3(t, 4, 2, time.Now())
	tests := map[string]struct {
		change func(*made, *receipt.Award)
		link   string
	}{
		"the price setter dropped": {func(_ *made, a *receipt.Award) { a.Bids, a.Scores = a.Bids[:2], a.Scores[:2] }, "clearing replayed"},
		"the winner dropped": {func(_ *made, a *receipt.Award) {
			a.Bids, a.Scores = a.Bids[1:], a.Scores[1:]
		}, "clearing replayed"},
		"a forged bid": {func(m *made, a *receipt.Award) {
			bid := forged(a, 2)
			bid.Asks[0]++
			a.Bids[2] = workload.Sign(workload.DomainBid, wire.MustMarshal(&bid), m.nodes[0])
		}, "bids"},
		"a bid of another auction":   {func(_ *made, a *receipt.Award) { a.Auction[0]++ }, "bids"},
		"a slot to a friend":         {func(m *made, a *receipt.Award) { a.Slots[0].Node = m.id(2) }, "clearing replayed"},
		"a better rate for a friend": {func(_ *made, a *receipt.Award) { a.Slots[0].Rate += 5 }, "clearing replayed"},
		"a score changed":            {func(_ *made, a *receipt.Award) { a.Scores[0].RiskPPM = 900_000 }, "clearing replayed"},
		"an award missing":           {func(m *made, _ *receipt.Award) { m.rec.Awards = nil }, "award"},
		"an award after its results": {func(_ *made, a *receipt.Award) { a.At += 5000 }, "award"},
		"another spec":               {func(m *made, _ *receipt.Award) { m.rec.Spec = other.rec.Spec }, "owner's spec"},
		"another program":            {func(m *made, _ *receipt.Award) { m.rec.Program.Host = "dog" }, "owner's spec"},
		"another workload":           {func(m *made, _ *receipt.Award) { m.rec.Workload.Random[3]++ }, "owner's spec"},
		"another fence":              {func(m *made, _ *receipt.Award) { m.rec.Generation++ }, "fence"},
		"a task closed twice":        {func(m *made, _ *receipt.Award) { m.segments[1].Done[0].From = 0 }, "fence"},
		"another isolation":          {func(m *made, _ *receipt.Award) { m.segments[0].Results[0].Isolation = "none" }, "isolation"},
		"a result changed":           {func(m *made, _ *receipt.Award) { m.segments[0].Results[0].Stdout.Size++ }, "outputs"},
		"a result dropped": {func(m *made, _ *receipt.Award) {
			m.segments[0].Results = m.segments[0].Results[:1]
		}, "outputs"},
		"usage made up":       {func(m *made, _ *receipt.Award) { m.segments[0].Usage.WallMs *= 2 }, "usage"},
		"a segment's price":   {func(m *made, _ *receipt.Award) { m.segments[0].Cost++; m.rec.Cost++ }, "price"},
		"a longer time paid":  {func(m *made, _ *receipt.Award) { m.repay(41 * 2) }, "price"},
		"a shorter one":       {func(m *made, _ *receipt.Award) { m.repay(39 * 2) }, "price"},
		"more than its age":   {func(m *made, a *receipt.Award) { m.segments[0].At = a.At + 50 }, "price"},
		"the sum":             {func(m *made, _ *receipt.Award) { m.rec.Cost++ }, "price"},
		"run by somebody":     {func(m *made, _ *receipt.Award) { m.segments[0].Node = m.id(2) }, "result"},
		"another segment":     {func(m *made, _ *receipt.Award) { m.segments[0].Ref.Size++ }, "result"},
		"failed all the same": {func(m *made, _ *receipt.Award) { m.rec.Phase = workload.Failed }, "result"},
	}
	for name, tt := range tests {
		m := make3(t, 4, 2, time.Now())
		tt.change(m, &m.rec.Awards[0])
		if r := verified(t, m.file().Encode(), receipt.Options{Root: meshtest.IDOf(m.mesh.Root)}); !slices.Contains(failing(r), tt.link) {
			t.Errorf("%s: failing %q, want %q among them: %+v", name, failing(r), tt.link, r.Links)
		}
	}
}

func TestChainsAreJudgedAtTheTimeOfSigning(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	for name, tt := range map[string]struct {
		issued time.Time
		status receipt.Status
		detail string
	}{
		"in time":                {now.Add(-day / 2), receipt.Holds, ""},
		"ended an hour before":   {now.Add(-day - time.Hour), receipt.Unchecked, "had ended 60 minutes before"},
		"ended long before":      {now.Add(-9 * day), receipt.Fails, "had ended before it signed"},
		"made after the signing": {now.Add(day), receipt.Fails, "was made after what it signed"},
	} {
		m := make3(t, 2, 1, now)
		m.certs[1] = m.mesh.Bundle(t, m.nodes[1], "node2", tt.issued).Encode()
		r := verified(t, m.file().Encode(), m.options())
		if r.Status() != tt.status || !strings.Contains(r.Links[1].Detail, tt.detail) {
			t.Errorf("%s: %s: %+v", name, r.Status(), r.Links[1])
		}
	}
}

func TestAnotherRootOrOwner(t *testing.T) {
	m := make3(t, 2, 1, time.Now())
	opt := m.options()
	opt.Root[5]++
	if r := verified(t, m.file().Encode(), opt); !slices.Equal(failing(r), []string{"certificates"}) {
		t.Errorf("another root: failing %q", failing(r))
	}
	opt = m.options()
	opt.Owner[5]++
	if r := verified(t, m.file().Encode(), opt); !slices.Equal(failing(r), []string{"owner's spec"}) {
		t.Errorf("another owner: failing %q", failing(r))
	}
}

// TestReceiptOfARealMesh keeps reading what an earlier mesh wrote: `perrin map
// cat -- 1 2 3` under `perrin dev --nodes 3`, then `perrin receipt`.
func TestReceiptOfARealMesh(t *testing.T) {
	raw, err := os.ReadFile("testdata/receipt.json")
	if err != nil {
		t.Fatal(err)
	}
	opt := receipt.Options{Root: key(t, "12D3KooWRNk17mbNK7VYCczYujmKRmGUSgRMX96ZLpjoM5s87MBH")}
	for _, voter := range []string{
		"12D3KooWKzNzEXChiQGaiwNunfRaSkeQN4sbrpwTEubgXMNddQzm", "12D3KooWBU8B1QfYkSDp5YKgYE86eNZ4geWTp2TUjC2j5DVe6Fhn",
		"12D3KooWS38YW1LDfheqp2ELTfS2LcsEeqtgfBmsivMVv2upznEC",
	} {
		opt.Voters = append(opt.Voters, key(t, voter))
	}
	if r := verified(t, raw, opt); r.Status() != receipt.Holds {
		t.Errorf("%+v", r.Links)
	}
}

func key(t *testing.T, text string) workload.PeerID {
	t.Helper()
	id, err := workload.ParsePeerID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestWhatIsNotThereIsUnchecked: what is left out of a file makes a link unchecked;
// a stranger's word for who the voters were is no better.
func TestWhatIsNotThereIsUnchecked(t *testing.T) {
	m := make3(t, 4, 2, time.Now())
	for name, tt := range map[string]struct {
		change func(*receipt.Receipt, *receipt.Options)
		status receipt.Status // of all: the subjects are no longer the outputs when results are missing
		links  []string       // unchecked
	}{
		"a certificate":      {func(f *receipt.Receipt, _ *receipt.Options) { f.Certificates = f.Certificates[1:] }, receipt.Unchecked, []string{"certificates"}},
		"results":            {func(f *receipt.Receipt, _ *receipt.Options) { f.Segments[0].Results = nil }, receipt.Fails, []string{"isolation", "usage", "price"}},
		"who the voters are": {func(_ *receipt.Receipt, o *receipt.Options) { o.Voters = nil }, receipt.Unchecked, []string{"cell's statement"}},
		"a voter":            {func(_ *receipt.Receipt, o *receipt.Options) { o.Voters = o.Voters[1:] }, receipt.Fails, nil},
	} {
		f, opt := m.file(), m.options()
		f.Certificates, f.Segments = slices.Clone(f.Certificates), slices.Clone(f.Segments)
		tt.change(f, &opt)
		r := verified(t, f.Encode(), opt)
		var links []string
		for _, l := range r.Links {
			if l.Status == receipt.Unchecked {
				links = append(links, l.Name)
			}
		}
		if r.Status() != tt.status || !slices.Equal(links, tt.links) {
			t.Errorf("without %s: %s, %q; want %q", name, r.Status(), links, tt.links)
		}
	}
}

// TestTenThousandTasks prints how long their receipt takes.
func TestTenThousandTasks(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: 1,000 signed segments")
	}
	m := make3(t, 10_000, 10, time.Now())
	raw := m.file().Encode()
	begin := time.Now()
	r := verified(t, raw, m.options())
	took := time.Since(begin)
	t.Logf("a receipt of 10,000 tasks in 1,000 segments, %d KiB: verified in %s", len(raw)>>10, took.Round(time.Millisecond))
	if r.Status() != receipt.Holds || r.Tasks.Total != 10_000 {
		t.Errorf("%+v", r.Links)
	}
}

func FuzzVerify(f *testing.F) {
	real, err := os.ReadFile("testdata/receipt.json")
	if err != nil {
		f.Fatal(err)
	}
	m := make3(f, 2, 1, time.Now())
	f.Add(real)
	f.Add(m.file().Encode())
	f.Add([]byte("{}"))
	rules := Rules(workload.NewMemo())
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := receipt.Verify(rules, raw, receipt.Options{})
		if err != nil {
			if !errors.Is(err, receipt.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if r.Status() == receipt.Holds {
			t.Error("nothing holds without a root")
		}
		for _, l := range r.Links {
			if l.Name == "" || l.Detail == "" {
				t.Errorf("a link says nothing: %+v", l)
			}
		}
	})
}
