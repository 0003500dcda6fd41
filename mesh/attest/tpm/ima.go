package tpm

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// files is what an IMA list comes to.
type files struct {
	count      int // entries that lead to the quoted register
	violations int
	weak       bool    // the register is extended by SHA-1
	entries    []entry // those that lead there
}

// entry is one entry of an IMA list. Nothing measures the name of its template, nor
// the content of a violation's entry.
type entry struct {
	violation bool
	algorithm string
	digest    []byte // of the file's content, or of what was measured instead
	name      string
}

// templates are those whose entries begin with a digest and a name, each behind its
// length (Documentation/security/IMA-templates.rst).
var templates = []string{"ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2", "ima-buf", "ima-modsig", "evm-sig"}

// sha256Name is the hash that a list of known files is in.
const sha256Name = "sha256"

var errFileLog = errors.New("the IMA list is not well-formed")

// replayFiles computes PCR 10 from a binary IMA list, entry by entry, and stops
// where it is the quoted one: the list may have grown since. Kernels from 5.8 on
// extend each bank by its own hash of the entry, older ones by the padded SHA-1.
func replayFiles(log, quoted []byte) (*files, error) {
	r := &reader{b: log, ok: true}
	var own, padded [sha256.Size]byte
	f, all, violations := &files{}, []entry(nil), 0
	for len(r.b) > 0 {
		if len(all) == maxEvents {
			return nil, fmt.Errorf("the IMA list has more than %d entries", maxEvents)
		}
		e, short, data, err := readEntry(r)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d", err, len(all)+1)
		}
		a, b := sha256.Sum256(data), [sha256.Size]byte{}
		copy(b[:], short)
		if e.violation {
			a, b = ones, ones
			violations++
		}
		all = append(all, e)
		extend(&own, a[:])
		extend(&padded, b[:])
		if bytes.Equal(own[:], quoted) || bytes.Equal(padded[:], quoted) {
			f.count, f.violations, f.entries, f.weak = len(all), violations, all, own != [sha256.Size]byte(quoted)
		}
	}
	if f.count == 0 {
		return nil, errors.New("the IMA list does not lead to the quoted PCR 10")
	}
	return f, nil
}

var ones = [sha256.Size]byte(bytes.Repeat([]byte{0xff}, sha256.Size))

// readEntry reads an entry with the SHA-1 that the kernel gives of its data: zero
// for a violation, which extends the register by ones.
func readEntry(r *reader) (e entry, short, data []byte, err error) {
	pcr := r.u32()
	short = r.take(sha1.Size)
	template := string(r.take(r.u32()))
	if r.ok && template == "ima" {
		return e, nil, nil, errors.New("the IMA list is in the template ima, which is not read; boot with ima_template=ima-ng")
	}
	if r.ok && !slices.Contains(templates, template) {
		return e, nil, nil, fmt.Errorf("the IMA list is in the template %.40q, which is not read", template)
	}
	data = r.take(r.u32())
	if !r.ok || pcr != 10 {
		return e, nil, nil, errFileLog
	}
	if e.violation = bytes.Equal(short, make([]byte, sha1.Size)); !e.violation {
		if sum := sha1.Sum(data); !bytes.Equal(sum[:], short) {
			return e, nil, nil, errFileLog
		}
	}
	e.fields(data)
	return e, short, data, nil
}

// fields reads digest and name; what does not read stays empty, and is then no
// known file.
func (e *entry) fields(data []byte) {
	r := &reader{b: data, ok: true}
	digest, name := r.take(r.u32()), r.take(r.u32())
	parts := bytes.SplitN(digest, []byte{0}, 2)
	if !r.ok || len(parts) != 2 {
		return
	}
	algorithm := bytes.TrimPrefix(bytes.TrimSuffix(parts[0], []byte(":")), []byte("ima:")) // ima-ngv2 names the kind of digest
	e.algorithm, e.digest, e.name = string(algorithm), parts[1], string(bytes.TrimSuffix(name, []byte{0}))
}

// String names an entry for people.
func (e entry) String() string {
	return fmt.Sprintf("%.120q (%.20s %.8x)", e.name, e.algorithm, e.digest)
}

// refused says why an entry is of no known file.
func (e entry) refused() string {
	switch {
	case e.violation: // nothing measures its name
		return fmt.Sprintf("IMA could not measure a file that was being written, it says %.120q", e.name)
	case e.algorithm != sha256Name && e.digest != nil:
		return fmt.Sprintf("IMA measured %s, and this node lists files by SHA-256; boot with ima_hash=sha256", e)
	}
	return fmt.Sprintf("IMA measured %s, which this node does not list", e)
}

// bootAggregate is the name of the entry by which each kernel's part of the list
// begins: a digest of the registers of the boot.
const bootAggregate = "boot_aggregate"

// isAggregate reports whether an entry is the SHA-256 of PCR 0 to 9, as kernels make
// it from 5.8 on (ima_calc_boot_aggregate_tfm).
func (e entry) isAggregate(value map[uint8][]byte) bool {
	h := sha256.New()
	for i := range uint8(bootPCRs) {
		h.Write(value[i])
	}
	return e.name == bootAggregate && !e.violation && e.algorithm == sha256Name && bytes.Equal(h.Sum(nil), e.digest)
}

// begun reports whether a list begins as the kernel of the boot would have begun it.
func (f *files) begun(value map[uint8][]byte) bool {
	return len(f.entries) > 0 && f.entries[0].isAggregate(value)
}

// unknown returns the entries that are not of a known file, the first of each, and
// how many are.
func (f *files) unknown(known map[workload.Digest]bool, value map[uint8][]byte) (out []entry, fine int) {
	seen := map[string]bool{}
	for _, e := range f.entries {
		switch text := e.String(); {
		case e.isAggregate(value):
		case !e.violation && e.algorithm == sha256Name && len(e.digest) == sha256.Size && known[workload.Digest(e.digest)]:
			fine++
		case !seen[text]:
			seen[text] = true
			out = append(out, e)
		}
	}
	return out, fine
}
