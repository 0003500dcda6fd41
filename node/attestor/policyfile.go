package attestor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// PolicyFile, in the folder, says what is taken of machines. It is YAML:
//
//	collateral_age: 720h        # revocation lists and TCB information are at most so old
//	without_lists: false        # true takes sgx, tdx and snp without a revocation list
//	tpm:
//	  need_lists: true          # a TPM needs a current list of its maker
//	  measurements: [pcr4=HEX]  # registers that it must show
//	snp:
//	  min_tcb:                  # the least firmware, by product; others are refused
//	    milan: {bootloader: 4, tee: 0, snp: 24, microcode: 219}
//	  max_vmpl: 0               # privilege level that may ask for a report, 0 to 3
//	  measurements: [launch=HEX]
//	tdx:                        # and sgx, likewise
//	  status: [UpToDate]        # what Intel may say of the machine's firmware
//	  min_evaluation: 17        # the least tcbEvaluationDataNumber
//	  measurements: [mrtd=HEX, rtmr1=HEX]
const PolicyFile = "policy.yaml"

// maxListed bounds the measurements of one kind in a policy.
const maxListed = 256

// sheet reads PolicyFile; it keeps the first thing that is wrong.
type sheet struct{ err error }

func (s *sheet) fail(n document.Pos, format string, args ...any) {
	if s.err == nil {
		s.err = &document.Error{File: PolicyFile, Pos: n, Message: fmt.Sprintf(format, args...)}
	}
}

// fieldReaders say how to read each field of a mapping.
type fieldReaders map[string]func(*document.Node)

// fields reads a mapping.
func (s *sheet) fields(name string, n *document.Node, readers fieldReaders) {
	if n.Kind != document.Map {
		s.fail(n.Pos, "%s: want a mapping, got %s", name, n.Kind)
		return
	}
	var names []string
	for name := range readers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, f := range n.Fields {
		if read := readers[f.Key]; read != nil {
			read(f.Value)
			continue
		}
		hint := "the fields are " + strings.Join(names, ", ")
		if near := document.Nearest(f.Key, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		s.fail(f.Pos, "%s: unknown field %.60q; %s", name, f.Key, hint)
	}
}

func (s *sheet) flag(name string, to *bool) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.Bool {
			s.fail(n.Pos, "%s: want true or false, got %s", name, n.Kind)
			return
		}
		*to = n.Text == "true"
	}
}

func (s *sheet) age(name string, to *time.Duration) func(*document.Node) {
	return func(n *document.Node) {
		d, err := time.ParseDuration(n.Text)
		if err != nil || n.Kind != document.String || d <= 0 {
			s.fail(n.Pos, "%s: want a time such as 720h, got %.40q", name, n.Text)
			return
		}
		*to = d
	}
}

func (s *sheet) number(name string, most uint64, to func(uint64)) func(*document.Node) {
	return func(n *document.Node) {
		v, err := strconv.ParseUint(n.Text, 10, 32)
		if err != nil || n.Kind != document.Number || v > most {
			s.fail(n.Pos, "%s: want a number from 0 to %d, got %.40q", name, most, n.Text)
			return
		}
		to(v)
	}
}

// texts reads a list of texts.
func (s *sheet) texts(name string, n *document.Node, each func(*document.Node)) {
	if n.Kind != document.List || len(n.Items) > maxListed {
		s.fail(n.Pos, "%s: want a list of at most %d, got %s", name, maxListed, n.Kind)
		return
	}
	if len(n.Items) == 0 { // who writes it may mean none, and it would have any pass
		s.fail(n.Pos, "%s: it is empty; list at least one, or leave the field out for the default", name)
		return
	}
	for _, item := range n.Items {
		if item.Kind != document.String {
			s.fail(item.Pos, "%s: want a text, got %s", name, item.Kind)
			return
		}
		each(item)
	}
}

// measurements reads those that evidence of a level has.
func (s *sheet) measurements(of workload.Level, to *[]workload.Measurement) func(*document.Node) {
	name := string(of) + ".measurements"
	return func(n *document.Node) {
		s.texts(name, n, func(item *document.Node) {
			m, err := of.ParseMeasurement(item.Text)
			if err != nil {
				s.fail(item.Pos, "%s: %v", name, err)
			}
			*to = append(*to, m)
		})
	}
}

// loadSheet reads PolicyFile into a policy.
func loadSheet(p *attest.Policy, b []byte) error {
	n, err := document.Parse(PolicyFile, b)
	if err != nil {
		return err
	}
	s := &sheet{}
	s.fields("policy", n, fieldReaders{
		"collateral_age": s.age("collateral_age", &p.CollateralAge),
		"without_lists":  s.flag("without_lists", &p.WithoutLists),
		"tpm": func(n *document.Node) {
			s.fields("tpm", n, fieldReaders{
				"need_lists":   s.flag("tpm.need_lists", &p.NeedRevocation),
				"measurements": s.measurements(workload.LevelTPM, &p.TPMMeasurements),
			})
		},
		"snp": func(n *document.Node) { s.snp(n, &p.SNP) },
		"tdx": func(n *document.Node) { s.intel("tdx", n, &p.TDX) },
		"sgx": func(n *document.Node) { s.intel("sgx", n, &p.SGX) },
	})
	return s.err
}

func (s *sheet) snp(n *document.Node, p *attest.SNPPolicy) {
	s.fields("snp", n, fieldReaders{
		"measurements": s.measurements(workload.LevelSNP, &p.Measurements),
		"max_vmpl":     s.number("snp.max_vmpl", 3, func(v uint64) { p.MaxVMPL = uint32(v) }),
		"min_tcb": func(n *document.Node) {
			p.MinTCB = map[string]attest.SNPTCB{}
			if n.Kind == document.Map && len(n.Fields) == 0 {
				s.fail(n.Pos, "snp.min_tcb: it is empty; name at least one product, or leave the field out to take any")
			}
			products := fieldReaders{}
			for _, name := range []string{"milan", "genoa", "turin"} {
				products[name] = func(n *document.Node) { p.MinTCB[name] = s.tcb("snp.min_tcb."+name, n) }
			}
			s.fields("snp.min_tcb", n, products)
		},
	})
}

func (s *sheet) tcb(name string, n *document.Node) (t attest.SNPTCB) {
	parts := fieldReaders{}
	for part, to := range map[string]*uint8{"bootloader": &t.Bootloader, "tee": &t.TEE, "snp": &t.SNP, "microcode": &t.Microcode, "fmc": &t.FMC} {
		if part != "fmc" || strings.HasSuffix(name, "turin") {
			parts[part] = s.number(name+"."+part, 255, func(v uint64) { *to = uint8(v) })
		}
	}
	s.fields(name, n, parts)
	return t
}

func (s *sheet) intel(kind string, n *document.Node, p *attest.IntelPolicy) {
	s.fields(kind, n, fieldReaders{
		"measurements":   s.measurements(workload.Level(kind), &p.Measurements),
		"min_evaluation": s.number(kind+".min_evaluation", 1<<32-1, func(v uint64) { p.MinEvaluation = uint32(v) }),
		"status": func(n *document.Node) {
			s.texts(kind+".status", n, func(item *document.Node) {
				if !slices.Contains(attest.Statuses, item.Text) {
					s.fail(item.Pos, "%s.status: %.40q is none of %s", kind, item.Text, strings.Join(attest.Statuses, ", "))
				}
				p.Status = append(p.Status, item.Text)
			})
		},
	})
}
