package receipt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// What the statement of a receipt says that it is.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://github.com/perrin-mesh/perrin/receipt/v1"
)

// MaxFile bounds a receipt in bytes, MaxNamed the tasks of a workload whose
// outputs its statement names one by one.
const (
	MaxFile       = 192 << 20
	MaxNamed      = 256
	maxSignatures = 256
	maxCerts      = 16_384
)

// ErrMalformed is returned for what is no receipt, or not one in the form in
// which Perrin writes it: every byte of it but white space must be one that
// Encode would write.
var ErrMalformed = errors.New("not a receipt")

// Receipt is the file: a DSSE envelope with what its statement names.
type Receipt struct {
	PayloadType  string      `json:"payloadType"`
	Payload      []byte      `json:"payload"`
	Signatures   []Signature `json:"signatures"`
	Certificates [][]byte    `json:"certificates"` // each a node's chain to the root
	Segments     []Segment   `json:"segments"`
}

// Statement is an in-toto Statement v1.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Record    `json:"predicate"`
}

// Subject is something that came out. The digest of content of more than 1 MiB
// is that of its list of chunks, under a name of its own.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Record is what the cell's ledger says of a workload: each voter makes the same one.
type Record struct {
	Mesh       workload.MeshID   `json:"mesh"`
	Workload   workload.ID       `json:"workload"`
	Spec       workload.Signed   `json:"spec"` // the owner's, of workload.Spec
	Program    workload.Program  `json:"program"`
	Home       workload.PeerID   `json:"home"` // the node that it was submitted on
	Generation uint64            `json:"generation"`
	Phase      workload.Phase    `json:"phase"`
	Reason     string            `json:"reason,omitempty"`
	Accepted   int64             `json:"accepted_ms"` // these times are the leader's
	Started    int64             `json:"started_ms"`
	Ended      int64             `json:"ended_ms"`
	Tasks      Counts            `json:"tasks"`
	Retries    uint64            `json:"retries"` // attempts that failed and were tried again
	Lost       uint64            `json:"lost"`    // attempts that went down with their node
	Cost       int64             `json:"cost"`    // micro-credits in all
	Awards     []Award           `json:"awards"`
	Dropped    uint32            `json:"awards_dropped,omitempty"` // earlier ones, which the cell does not keep
	Segments   Segments          `json:"segments"`
	Voters     []workload.PeerID `json:"voters"` // of the cell, when the receipt was made
}

// Counts is how many tasks there are, ended well, and failed.
type Counts struct {
	Total  uint32 `json:"total"`
	Done   uint32 `json:"done"`
	Failed uint32 `json:"failed"`
}

// Segments names the segments that go with a record.
type Segments struct {
	Count int             `json:"count"`
	Root  workload.Digest `json:"root"` // of the tree whose leaves are the JSON of each, without its results
}

// Award is one auction that gave slots, with all that its clearing looked at.
type Award struct {
	Auction  Auction                `json:"auction"`
	At       int64                  `json:"at_ms"` // the leader's time
	Index    uint64                 `json:"index"` // of the cell's log entry
	Wanted   uint32                 `json:"wanted"`
	MaxPrice int64                  `json:"max_price"`
	Bids     []workload.Signed      `json:"bids"`
	Scores   []workload.Score       `json:"scores"` // one a bid
	Slots    []workload.AwardSlot   `json:"slots"`  // as cleared
	Granted  uint32                 `json:"granted"`
	First    workload.SlotID        `json:"first_slot"` // of those granted, which count up from it
	Declines []workload.DeclineNote `json:"declines,omitempty"`
	Proofs   []workload.Signed      `json:"proofs,omitempty"` // what the leader found of the evidence of who got slots, where some was asked for

	Countersigned []workload.Signed `json:"countersigned,omitempty"` // by voters, before it was committed, where the owner asked for it
}

// Auction is the text form of a workload.AuctionID.
type Auction workload.AuctionID

// MarshalText returns 32 hex digits.
func (a Auction) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", a[:]), nil }

// Segment is the results of some tasks of one slot, as the ledger recorded them.
type Segment struct {
	Slot      workload.SlotID  `json:"slot"`
	Node      workload.PeerID  `json:"node"`
	At        int64            `json:"at_ms"`   // the leader's time
	Rate      int64            `json:"rate"`    // micro-credits per slot-second
	PaidMs    int64            `json:"paid_ms"` // what Cost is for
	Cost      int64            `json:"cost"`
	Usage     workload.Usage   `json:"usage"`
	Ref       workload.Ref     `json:"ref"`
	Done      []workload.Range `json:"done,omitempty"`
	Failed    []Failed         `json:"failed,omitempty"` // for good
	Retried   []workload.Range `json:"retried,omitempty"`
	Statement []byte           `json:"statement"` // what the node signed
	Sig       []byte           `json:"sig"`
	Vote      *Vote            `json:"vote,omitempty"` // of a workload that is verified
	Results   []Result         `json:"results,omitempty"`
}

// Vote is the one result of a segment of a workload that is verified.
type Vote struct {
	Task    uint32          `json:"task"`
	Attempt uint32          `json:"attempt"`
	Exit    workload.Exit   `json:"exit"`
	Code    int32           `json:"code"`
	Result  workload.Digest `json:"result"`            // VoteOf it
	Verdict string          `json:"verdict,omitempty"` // agrees, differs (and is not paid), alone, or unjudged

	// Of one that its node may have returned alone: how many of its results for who
	// pays had agreed in a row, by the cell's word, and what was drawn.
	Streak uint32 `json:"streak,omitempty"`
	Drawn  *Drawn `json:"drawn,omitempty"`
}

// Drawn is what the owner's node drew for a result: whether others ran the task too.
type Drawn struct {
	Picked bool   `json:"picked"`
	Sig    []byte `json:"sig,omitempty"`  // of workload.Draw, by the owner; none when its node did not draw
	Note   string `json:"note,omitempty"` // why not
}

// Failed is an attempt that is not tried again.
type Failed struct {
	Task    uint32        `json:"task"`
	Attempt uint32        `json:"attempt"`
	Exit    workload.Exit `json:"exit"`
	Code    int32         `json:"code"`
}

// segmentsOf names a list of segments.
func segmentsOf(list []Segment) Segments {
	bare := make([]Segment, len(list))
	for i := range list {
		bare[i] = list[i]
		bare[i].Results = nil
	}
	return Segments{Count: len(list), Root: rootOfJSON(bare)}
}

// Payload is the statement about a record and its segments. Every voter makes
// the same one.
func Payload(rec Record, segments []Segment) []byte {
	rec.Segments = segmentsOf(segments)
	return mustJSON(&Statement{
		Type: StatementType, PredicateType: PredicateType, Subject: subjects(&rec, segments), Predicate: rec,
	})
}

// subjects names all results by one digest and, of few tasks, each output.
func subjects(rec *Record, segments []Segment) []Subject {
	out := []Subject{{"perrin/" + rec.Workload.String(), map[string]string{"sha256": rec.Segments.Root.Hex()}}}
	if !Named(rec) {
		return out
	}
	add := func(name string, ref workload.Ref) {
		algorithm := "sha256"
		if ref.Size > workload.ChunkSize {
			algorithm = "perrin-chunks-sha256"
		}
		if !ref.IsZero() {
			out = append(out, Subject{name, map[string]string{algorithm: ref.Digest.Hex()}})
		}
	}
	for i := range segments {
		for j := range segments[i].Results {
			r := &segments[i].Results[j]
			base := fmt.Sprintf("task/%d/%d/", r.Task, r.Attempt)
			add(base+"stdout", r.Stdout)
			add(base+"stderr", r.Stderr)
			for _, o := range r.Outputs {
				add(base+"out/"+o.Path, o.Blob)
			}
		}
	}
	return out
}

// Named reports whether a statement names each output of a record: then who makes
// it needs the results.
func Named(rec *Record) bool { return rec.Tasks.Total <= MaxNamed }

// Encode returns the file, in lines.
func (r *Receipt) Encode() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, mustJSON(r), "", " "); err != nil {
		panic("receipt: " + err.Error()) // it was made in the line above
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// Decode reads a file. It verifies nothing but the form: white space is the only
// thing that may differ from what Encode writes. The error wraps ErrMalformed.
func Decode(raw []byte) (*Receipt, *Statement, error) {
	if len(raw) > MaxFile {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(raw), MaxFile)
	}
	var r Receipt
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, nil, fmt.Errorf("%w: %.200s", ErrMalformed, err.Error())
	}
	if err := exactly(compact.Bytes(), &r); err != nil {
		return nil, nil, fmt.Errorf("%w: the file: %w", ErrMalformed, err)
	}
	var s Statement
	if r.PayloadType != PayloadType {
		return nil, nil, fmt.Errorf("%w: payloadType %.80q, want %q", ErrMalformed, r.PayloadType, PayloadType)
	}
	if err := exactly(r.Payload, &s); err != nil {
		return nil, nil, fmt.Errorf("%w: the statement: %w", ErrMalformed, err)
	}
	switch {
	case s.Type != StatementType:
		return nil, nil, fmt.Errorf("%w: _type %.80q, want %q", ErrMalformed, s.Type, StatementType)
	case s.PredicateType != PredicateType:
		return nil, nil, fmt.Errorf("%w: predicateType %.80q, want %q", ErrMalformed, s.PredicateType, PredicateType)
	case len(r.Signatures) > maxSignatures || len(r.Certificates) > maxCerts:
		return nil, nil, fmt.Errorf("%w: %d signatures and %d certificates, at most %d and %d", ErrMalformed,
			len(r.Signatures), len(r.Certificates), maxSignatures, maxCerts)
	}
	return &r, &s, nil
}

// exactly decodes what json.Marshal would write for v, and nothing else: no
// unknown or doubled field, no other spelling.
func exactly(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%.200s", err.Error())
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if bytes.Equal(again, raw) {
		return nil
	}
	at := 0
	for at < len(again) && at < len(raw) && again[at] == raw[at] {
		at++
	}
	return fmt.Errorf("it is not as Perrin writes it, from byte %d on: %.60q", at, raw[at:min(len(raw), at+60)])
}

// UnmarshalText parses 32 hex digits.
func (a *Auction) UnmarshalText(b []byte) error {
	var v Auction
	if n, err := hex.Decode(v[:], b[:min(len(b), 2*len(v))]); err != nil || n != len(v) || len(b) != 2*len(v) {
		return fmt.Errorf("auction %.40q: want %d hex digits", b, 2*len(v))
	}
	*a = v
	return nil
}

// Certify adds a node's chain of certificates, unless it is there.
func (r *Receipt) Certify(chain []byte) {
	same := func(c []byte) bool { return bytes.Equal(c, chain) }
	if len(chain) > 0 && !slices.ContainsFunc(r.Certificates, same) {
		r.Certificates = append(r.Certificates, chain)
	}
}
