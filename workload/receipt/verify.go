package receipt

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Status is how one link of the chain came out.
type Status string

// The three ways.
const (
	Holds     Status = "holds"
	Fails     Status = "fails"
	Unchecked Status = "unchecked" // nothing is wrong with it, and something that it needs is not here
)

// Link is one link of a receipt's chain, and why it is as it is.
type Link struct {
	Name   string `json:"link"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
}

// Report is what Verify found.
type Report struct {
	Workload workload.ID     `json:"workload"`
	Mesh     workload.MeshID `json:"mesh"`
	Root     workload.PeerID `json:"root"` // that the certificates lead to
	Owner    workload.PeerID `json:"owner"`
	Phase    workload.Phase  `json:"phase"`
	Tasks    Counts          `json:"tasks"`
	Cost     int64           `json:"cost"`
	Ended    int64           `json:"ended_ms"`
	Links    []Link          `json:"links"`
}

// Status is the worst of the links: Fails, else Unchecked, else Holds.
func (r *Report) Status() Status {
	worst := Holds
	for _, l := range r.Links {
		if l.Status == Fails {
			return Fails
		}
		if l.Status == Unchecked {
			worst = Unchecked
		}
	}
	return worst
}

// Options are what the one who checks knows by other ways. Zero is unknown.
type Options struct {
	Root  workload.PeerID // of the mesh
	Owner workload.PeerID // of the workload
	// Voters of the cell. Whom the file names as one must be among them, and a
	// majority of them must have signed.
	Voters []workload.PeerID
	// Stood returns why a node's certificate by an operator counted for nothing at a
	// time in ms: who was removed or denied by then. Nil is that nobody says.
	Stood func(node, operator workload.PeerID, at int64) error
	// StoodAsOf is when what Stood knows was written down, in ms; 0 is not known.
	StoodAsOf int64
}

// check is one run of Verify.
type check struct {
	rules *Rules
	opt   Options
	file  *Receipt
	rec   *Record
	s     *Statement

	spec    workload.Spec
	specErr error
	certs   map[workload.PeerID][]Cert
	signed  []Signed // of each segment
	badSig  error    // of a segment
}

// unsure is an error that is a lack, not a fault.
type unsure struct{ text string }

func (u unsure) Error() string { return u.text }

func lacking(format string, args ...any) error { return unsure{fmt.Sprintf(format, args...)} }

// Verify checks a receipt. The error, which wraps ErrMalformed, says that raw is
// none; what is wrong with one is in the report.
func Verify(rules *Rules, raw []byte, opt Options) (*Report, error) {
	file, statement, err := Decode(raw)
	if err != nil {
		return nil, err
	}
	c := &check{rules: rules, opt: opt, file: file, s: statement, rec: &statement.Predicate, certs: map[workload.PeerID][]Cert{}}
	c.spec, c.specErr = rules.OpenSpec(c.rec.Spec)
	c.openSegments()
	report := &Report{
		Workload: c.rec.Workload, Mesh: c.rec.Mesh, Owner: c.rec.Spec.By, Phase: c.rec.Phase, Tasks: c.rec.Tasks,
		Cost: c.rec.Cost, Ended: c.rec.Ended,
	}
	links := []link{
		{"envelope", c.envelope}, {"certificates", c.certificates}, {"owner's spec", c.ownersSpec}, {"bids", c.bids},
		{"clearing replayed", c.clearing}, {"award", c.award},
		{"countersigned", c.countersigned}, {"fence", c.fence}, {"evidence", c.evidence},
		{"isolation", c.isolation}, {"usage", c.usage}, {"outputs", c.outputs}, {"price", c.price},
		{"result", c.result}, {"cell's statement", c.cell},
	}
	if c.spec.VerifyBy != nil {
		links = slices.Insert(links, len(links)-1, link{"checked", c.checked})
	}
	for _, link := range links {
		detail, err := link.do()
		l := Link{Name: link.name, Status: Holds, Detail: detail}
		if err != nil {
			l.Status, l.Detail = Fails, err.Error()
			if _, lack := err.(unsure); lack {
				l.Status = Unchecked
			}
		}
		report.Links = append(report.Links, l)
	}
	report.Root = c.root()
	return report, nil
}

// link is one link and how it is checked.
type link struct {
	name string
	do   func() (string, error)
}

// openSegments decodes what each worker signed, and verifies it.
func (c *check) openSegments() {
	c.signed = make([]Signed, len(c.file.Segments))
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		err := c.rules.Verify(workload.DomainResult, workload.Signed{Payload: g.Statement, By: g.Node, Sig: g.Sig})
		if err == nil {
			c.signed[i], err = c.rules.OpenResult(g.Statement)
		}
		if err != nil && c.badSig == nil {
			c.badSig = fmt.Errorf("segment %d: %w", i, err)
		}
	}
}

// root is the one that all certificates lead to; zero while there is none.
func (c *check) root() (root workload.PeerID) {
	for _, list := range c.certs {
		for _, cert := range list {
			root = cert.Root
		}
	}
	return root
}

// envelope: every signature of the statement holds, all segments are those that
// it names.
func (c *check) envelope() (string, error) {
	if len(c.file.Signatures) == 0 {
		return "", fmt.Errorf("nobody has signed the statement")
	}
	seen := map[workload.PeerID]bool{}
	for i := range c.file.Signatures {
		s := &c.file.Signatures[i]
		if seen[s.KeyID] {
			return "", fmt.Errorf("%s has signed twice", s.KeyID.Short())
		}
		seen[s.KeyID] = true
		if !s.Holds(c.file.Payload) {
			return "", fmt.Errorf("the signature of %s does not verify", s.KeyID.Short())
		}
	}
	if have := segmentsOf(c.file.Segments); have != c.rec.Segments {
		return "", fmt.Errorf("the statement names %d segments under %s, the file has %d under %s", c.rec.Segments.Count,
			c.rec.Segments.Root.Short(), have.Count, have.Root.Short())
	}
	return fmt.Sprintf("%s of the statement, which names %s", workload.Counted(len(seen), "signature"), workload.Counted(c.rec.Segments.Count, "segment")), nil
}

// nodes lists who ran the work, each once, in the order in which they reported.
func (c *check) nodes() (out []workload.PeerID) {
	seen := map[workload.PeerID]bool{}
	for i := range c.file.Segments {
		if p := c.file.Segments[i].Node; !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// certificates: whoever signed anything but the spec had a certificate of the
// mesh when it did.
func (c *check) certificates() (string, error) {
	operators := map[workload.PeerID]bool{}
	for i, raw := range c.file.Certificates {
		cert, err := c.rules.OpenCert(raw)
		if err != nil {
			return "", fmt.Errorf("certificate %d: %w", i, err)
		}
		switch {
		case c.rules.MeshOf(cert.Root) != c.rec.Mesh:
			return "", fmt.Errorf("certificate %d: of another mesh than the receipt", i)
		case !c.opt.Root.IsZero() && cert.Root != c.opt.Root:
			return "", fmt.Errorf("certificate %d: its root is %s, not %s", i, cert.Root, c.opt.Root)
		}
		c.certs[cert.Node] = append(c.certs[cert.Node], cert)
		operators[cert.Operator] = true
	}
	if err := c.allCertified(); err != nil {
		return "", err
	}
	if c.opt.Root.IsZero() {
		return "", lacking("the certificates of %s lead to the root %s, and nothing here says that it is your mesh's: give --root", workload.Counted(len(c.certs), "node"), c.root())
	}
	detail := fmt.Sprintf("%s, certified by %s below the root %s", workload.Counted(len(c.certs), "node"), workload.Counted(len(operators), "operator"), c.opt.Root)
	if c.opt.Stood != nil {
		detail += c.asOf()
	}
	return detail, nil
}

// asOf says since when the trust file may not know of a removal.
func (c *check) asOf() string {
	at := c.opt.StoodAsOf
	switch {
	case at == 0:
		return "; as far as the trust file knows, which has no date, none was removed or denied by then"
	case at < c.rec.Ended:
		return fmt.Sprintf("; by the trust file of %s none was removed or denied by then; it is older than the end of the workload, and does not know what came after it",
			time.UnixMilli(at).UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("; by the trust file of %s none was removed or denied by then", time.UnixMilli(at).UTC().Format(time.RFC3339))
}

// allCertified returns the first fault, else the first lack.
func (c *check) allCertified() error {
	var lack error
	look := func(err error, where string, i int) error {
		if err == nil {
			return nil
		}
		if _, ok := err.(unsure); ok {
			if lack == nil {
				lack = lacking("%s %d: %s", where, i, err.Error())
			}
			return nil
		}
		return fmt.Errorf("%s %d: %w", where, i, err)
	}
	for i := range c.rec.Awards {
		a := &c.rec.Awards[i]
		for _, b := range a.Bids {
			if err := look(c.certified(b.By, a.At, a.At), "award", i); err != nil {
				return err
			}
		}
	}
	for i := range c.rec.Awards {
		a := &c.rec.Awards[i]
		for _, s := range slices.Concat(a.Proofs, a.Countersigned) {
			if err := look(c.certified(s.By, a.At, a.At), "award", i); err != nil {
				return err
			}
		}
	}
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		if err := look(c.certified(g.Node, g.At, g.At), "segment", i); err != nil {
			return err
		}
	}
	for i, s := range c.file.Signatures { // made at some time after the end
		if err := look(c.certified(s.KeyID, c.rec.Ended, math.MaxInt64), "signature", i); err != nil {
			return err
		}
	}
	return lack
}

// certified reports whether the node had a certificate at some time of a span, in
// which it signed something.
func (c *check) certified(node workload.PeerID, from, to int64) error {
	list := c.certs[node]
	if len(list) == 0 {
		return lacking("no certificate of %s is with it", node.Short())
	}
	ended := int64(math.MinInt64) // the last one that had, by then
	var out error                 // why the last one that was good in time counted for nothing
	for _, cert := range list {
		switch {
		case cert.From-certSlack > to:
		case from <= cert.To+certSlack:
			if out = c.stood(&cert, from); out == nil {
				return nil
			}
		default:
			ended = max(ended, cert.To)
		}
	}
	switch {
	case out != nil:
		return fmt.Errorf("%s: %w", c.name(node), out)
	case ended == math.MinInt64:
		return fmt.Errorf("the certificate of %s was made after what it signed", node.Short())
	case from-ended <= certGrace:
		return lacking("the certificate of %s had ended %d minutes before: a mesh goes on like that while its operators are away, which nothing here shows",
			node.Short(), (from-ended)/60_000)
	}
	return fmt.Errorf("the certificate of %s had ended before it signed", node.Short())
}

// stood judges a certificate by what the operators have said: at the time when it was
// used, and no earlier than it was made.
func (c *check) stood(cert *Cert, used int64) error {
	if c.opt.Stood == nil {
		return nil
	}
	return c.opt.Stood(cert.Node, cert.Operator, max(used, cert.From))
}

// name is what a certificate calls a node.
func (c *check) name(node workload.PeerID) string {
	if list := c.certs[node]; len(list) > 0 {
		return list[0].Name
	}
	return node.Short()
}

func (c *check) names(nodes []workload.PeerID) string {
	const shown = 8
	var out []string
	for _, n := range nodes[:min(len(nodes), shown)] {
		out = append(out, c.name(n))
	}
	if rest := len(nodes) - shown; rest > 0 {
		out = append(out, fmt.Sprintf("%d more", rest))
	}
	return strings.Join(out, ", ")
}

// ownersSpec: the owner signed it, for this mesh, and it is what was accepted.
func (c *check) ownersSpec() (string, error) {
	r, spec := c.rec, &c.spec
	switch {
	case c.specErr != nil:
		return "", c.specErr
	case spec.Mesh != r.Mesh:
		return "", fmt.Errorf("signed for mesh %.12s, the receipt is of %.12s", spec.Mesh, r.Mesh)
	case c.rules.Name(r.Workload.Cell, r.Spec) != r.Workload:
		return "", fmt.Errorf("the workload of this spec is another one than %s", r.Workload)
	case spec.Tasks.Count != r.Tasks.Total:
		return "", fmt.Errorf("it has %d tasks, the statement %d", spec.Tasks.Count, r.Tasks.Total)
	case string(mustJSON(spec.Program)) != string(mustJSON(r.Program)):
		return "", fmt.Errorf("its program is another one than the statement's")
	case !c.opt.Owner.IsZero() && r.Spec.By != c.opt.Owner:
		return "", fmt.Errorf("signed by %s, not by %s", r.Spec.By, c.opt.Owner)
	}
	what := spec.Program.Name
	if !spec.Program.Blob.IsZero() {
		what += " " + spec.Program.Blob.Digest.Short()
	}
	detail := fmt.Sprintf("%s of %s, signed by %s", what, workload.Counted(spec.Tasks.Count, "task"), r.Spec.By)
	if !c.opt.Owner.IsZero() {
		detail += ", who is the owner you named"
	}
	return detail, nil
}
