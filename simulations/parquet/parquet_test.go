package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

var table = []Field{{"n", Int64, false}, {"small", Int32, true}, {"word", Text, false}, {"note", Text, true}}

// written is a table of so many rows: every third has no small number.
func writtenTable(t testing.TB, rows int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, table, [2]string{"schema", "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		w.Int(0, int64(i)*1_000_003-7)
		if i%3 == 0 {
			w.None(1)
		} else {
			w.Int(1, int64(-i))
		}
		w.Text(2, "word")
		w.None(3)
		if err := w.Row(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWhatIsWrittenReadsBack has tables of none, of one and of three row groups.
func TestWhatIsWrittenReadsBack(t *testing.T) {
	for _, rows := range []int{0, 1, 9, 2*groupRows + 5} {
		got, err := Read(writtenTable(t, rows), rows, "small", "n")
		if err != nil {
			t.Fatal(err)
		}
		small, n := got[0].Values, got[1].Values
		if len(small) != rows || len(n) != rows {
			t.Fatalf("%d and %d values of %d rows", len(small), len(n), rows)
		}
		for i := range rows {
			if n[i] != float64(i)*1_000_003-7 || i%3 == 0 != math.IsNaN(small[i]) || i%3 != 0 && small[i] != float64(-i) {
				t.Fatalf("row %d of %d: %g, %g", i, rows, n[i], small[i])
			}
		}
	}
}

// TestOthersFiles reads what parquet-go v0.32.0 wrote: tables like OpenDC's tasks with
// deltas and dictionaries in pages of both versions, and plain ones with nulls, packed
// with each codec, in three row groups.
func TestOthersFiles(t *testing.T) {
	for _, name := range []string{"opendc-zstd-v2", "opendc-snappy-v1"} {
		c := read(t, name, "submission_time", "duration", "cpu_count", "gpu_count")
		for i := range 300 {
			at, took, cpus, gpus := 1376314846000+float64((i*7919)%300)*60_000, float64(1000+(i*i)%100_000), float64(int(1)<<(i%4)), float64(i%3)
			if c[0].Values[i] != at || c[1].Values[i] != took || c[2].Values[i] != cpus {
				t.Fatalf("%s, row %d: %g %g %g", name, i, c[0].Values[i], c[1].Values[i], c[2].Values[i])
			}
			if got := c[3].Values[i]; i%2 == 0 && got != gpus || i%2 == 1 && !math.IsNaN(got) {
				t.Fatalf("%s, row %d: %g GPUs", name, i, got)
			}
		}
		if c[0].Seconds != 1e-3 || c[1].Seconds != 0 {
			t.Errorf("%s: units of %g and %g s", name, c[0].Seconds, c[1].Seconds)
		}
	}
	for _, name := range []string{"plain-gzip-v1", "plain-none-v2"} {
		c := read(t, name, "submission_time", "duration", "load")
		for i := range 300 {
			took := float64(i * 10)
			if c[0].Values[i] != 1376314846000000+float64(i)*1_500_000 || c[2].Values[i] != float64(i)/4 || i%5 != 0 && c[1].Values[i] != took || i%5 == 0 && !math.IsNaN(c[1].Values[i]) {
				t.Fatalf("%s, row %d: %g %g %g", name, i, c[0].Values[i], c[1].Values[i], c[2].Values[i])
			}
		}
		if c[0].Seconds != 1e-6 {
			t.Errorf("%s: a unit of %g s", name, c[0].Seconds)
		}
	}
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".parquet")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func read(t *testing.T, name string, columns ...string) []Column {
	t.Helper()
	c, err := Read(file(t, name), 300, columns...)
	if err != nil || len(c[0].Values) != 300 {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// TestRefused wants what is wrong said, and nothing to be read beyond its end.
func TestRefused(t *testing.T) {
	data := file(t, "opendc-zstd-v2")
	for want, err := range map[string]error{
		"the column submitted is missing; the file has id, name, submission_time": errOf(data, 300, "submitted"),
		"name, row group 1: it is not a column of plain numbers":                  errOf(data, 300, "name"),
		"parents.list.element, row group 1: it is not a column of plain numbers":  errOf(data, 300, "parents.list.element"),
		"it has more than 299 rows":                                               errOf(data, 299, "id"),
		"it is not a Parquet file":                                                errOf(data[:len(data)-9], 300, "id"),
		"the metadata is cut off":                                                 errOf(append(slices.Clone(data[:40]), data[len(data)-8:]...), 300, "id"),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	wrong := 0
	for i := 0; i < len(data); i += 7 { // a bit is turned
		bad := slices.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if errOf(bad, 300, "submission_time", "cpu_count", "gpu_count") != nil {
			wrong++
		}
	}
	if wrong < len(data)/70 {
		t.Errorf("%d of %d damaged files are refused", wrong, len(data))
	}
}

func errOf(data []byte, most int, names ...string) error {
	_, err := Read(data, most, names...)
	return err
}

// FuzzRead wants columns of the same length, whatever the file.
// A number in a run is no larger than its bits say: a level of 255 would make 255
// values of each row.
func TestARunIsNoLargerThanItsBits(t *testing.T) {
	run := append(binary.AppendUvarint(nil, 1000<<1), 255)
	if got, err := hybrid(run, 1, 1000); err == nil {
		t.Errorf("%d numbers, the first is %d", len(got), got[0])
	}
}

// Truths, which take half a byte each, count as values.
func TestTruthsAreCounted(t *testing.T) {
	in := &thrift{in: append(bytes.Repeat([]byte{0x11}, maxValues+1), 0)}
	if v, err := in.structure(0); !errors.Is(err, errLarge) {
		t.Errorf("%d fields, %v", len(v.fields), err)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"few-zstd-v2", "few-snappy-v1"} { // small ones: the fuzzer tries more of them
		f.Add(file(f, name), "duration", "submission_time")
	}
	f.Add(writtenTable(f, 9), "n", "small")
	f.Add([]byte("PAR1\x00\x01\x00\x00\x00PAR1"), "n", "n")
	f.Fuzz(func(t *testing.T, data []byte, a, b string) {
		c, err := Read(data, 1000, a, b)
		if err == nil && (len(c) != 2 || len(c[0].Values) != len(c[1].Values) || len(c[0].Values) > 1000) {
			t.Errorf("%d columns of %d and %d values", len(c), len(c[0].Values), len(c[1].Values))
		}
	})
}
