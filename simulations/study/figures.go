package study

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Altered is the error of a replay whose figures are not those of the folder, although
// its events are.
type Altered struct {
	File      string // of the folder
	What      string // the first figure that differs
	Want, Got string // in the file, and now
}

// Error names the figure, and both values of it.
func (e *Altered) Error() string {
	return fmt.Sprintf("%s: %s is %.60s, the run gives %.60s", e.File, e.What, e.Want, e.Got)
}

// Rival returns the policy that the study of a folder also ran its worlds under, as
// summary.json names it; "" is none.
func Rival(dir string) (string, error) {
	s, err := ReadSummary(dir)
	if err != nil {
		return "", err
	}
	for _, r := range s.Figures {
		if name, ok := strings.CutPrefix(r.Unit, rivalUnit); ok && r.Name == rivalName {
			if name == scenario.Own || !slices.Contains(scenario.Policies, name) {
				return "", fmt.Errorf("summary.json: %s is of a policy %.40q, which is not known", rivalName, name)
			}
			return name, nil
		}
	}
	return "", nil
}

// CheckFigures compares the summary and the tables of a folder, byte by byte, with
// what a study came to. The error is an *Altered that names the first that differs.
func (o *Outcome) CheckFigures(dir string) error {
	for _, f := range []struct {
		name   string
		write  func(io.Writer) error
		differ func(name string, was, now []byte) error
	}{
		{"summary.json", func(w io.Writer) error { return indented(w, o.Summary()) }, summaryDiffers},
		{"series.csv", o.writeSeries, tableDiffers},
		{"spreads.csv", o.writeSpreads, tableDiffers},
	} {
		was, err := readAtMost(filepath.Join(dir, f.name), largestTable)
		if err != nil {
			return err
		}
		var now bytes.Buffer
		if err := f.write(&now); err != nil {
			return err
		}
		if !bytes.Equal(was, now.Bytes()) {
			return f.differ(f.name, was, now.Bytes())
		}
	}
	return nil
}

// writtenRow is a Row as its file has it.
type writtenRow struct {
	Name     string            `json:"name"`
	Unit     string            `json:"unit"`
	Interval json.RawMessage   `json:"interval"`
	Values   []json.RawMessage `json:"values"`
}

// summaryDiffers names the first figure of two summaries that are not the same.
func summaryDiffers(name string, was, now []byte) error {
	var a, b struct{ Figures []writtenRow }
	if err := json.Unmarshal(was, &a); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(now, &b); err != nil {
		return fmt.Errorf("%s as it should be: %w", name, err)
	}
	for i := range min(len(a.Figures), len(b.Figures)) {
		if what, want, got := rowDiffers(&a.Figures[i], &b.Figures[i]); what != "" {
			return &Altered{name, what, want, got}
		}
	}
	if len(a.Figures) != len(b.Figures) {
		return &Altered{name, "the number of figures", fmt.Sprint(len(a.Figures)), fmt.Sprint(len(b.Figures))}
	}
	return tableDiffers(name, was, now)
}

// rowDiffers says what of a figure differs; "" is nothing.
func rowDiffers(a, b *writtenRow) (what, was, now string) {
	if a.Name != b.Name || a.Unit != b.Unit {
		return "a figure", a.Name + " (" + a.Unit + ")", b.Name + " (" + b.Unit + ")"
	}
	if len(a.Values) != len(b.Values) {
		return "the number of values of " + a.Name, fmt.Sprint(len(a.Values)), fmt.Sprint(len(b.Values))
	}
	for n := range a.Values {
		if !bytes.Equal(a.Values[n], b.Values[n]) {
			return fmt.Sprintf("%s of replication %d", a.Name, n+1), string(a.Values[n]), string(b.Values[n])
		}
	}
	if was, now = compact(a.Interval), compact(b.Interval); was != now {
		return "the interval of " + a.Name, was, now
	}
	return "", "", ""
}

func compact(raw json.RawMessage) string {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return string(raw)
	}
	return out.String()
}

// tableDiffers names the first line of two texts that are not the same; of a table,
// also the column.
func tableDiffers(name string, was, now []byte) error {
	a, b := strings.Split(string(was), "\n"), strings.Split(string(now), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		header, row, other := fields(b[0]), fields(a[i]), fields(b[i])
		for k := range header {
			if strings.HasSuffix(name, ".csv") && i > 0 && len(row) == len(header) && len(other) == len(header) && row[k] != other[k] {
				return &Altered{name, fmt.Sprintf("line %d, %s", i+1, header[k]), row[k], other[k]}
			}
		}
		return &Altered{name, fmt.Sprintf("line %d", i+1), fmt.Sprintf("%q", a[i]), fmt.Sprintf("%q", b[i])}
	}
	return &Altered{name, "the number of lines", fmt.Sprint(len(a)), fmt.Sprint(len(b))}
}

// fields is a line of a table; nil when it is none.
func fields(line string) []string {
	row, err := csv.NewReader(strings.NewReader(line)).Read()
	if err != nil {
		return nil
	}
	return row
}

// readAtMost reads a file of at most so many bytes.
func readAtMost(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return data, err
}
