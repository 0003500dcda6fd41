package workload

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var whereFacts = map[string]string{
	"arch": "amd64", "cores": "4", "memory": "17179869184", "zone": "a b", "gpu": "true",
	"rack": "07", "off": "no", "version": "1.2.3", "wall-wasm": "true", "smt": "2", "site.eu/row": "x",
}

func TestWhereMatch(t *testing.T) {
	tests := []struct {
		where string
		want  bool
	}{
		{"", true}, {"  \t", true},
		{"arch==amd64", true}, {"arch!=amd64", false}, {"arch == amd64 && zone != attic", true},
		{"cores>=4", true}, {"cores>4", false}, {"cores<=4", true}, {"cores<4", false}, {"cores==4.0", true}, {"cores!=4.0", false},
		{"memory>=16GiB", true}, {"memory>16GiB", false}, {"memory==16gib", true}, {"memory>=17GB", true}, {"memory>=17.2GB", false},
		{`cores=="4.0"`, false}, {`cores=="4"`, true}, {"rack==7", true}, {`rack=="7"`, false},
		{"gpu", true}, {"!gpu", false}, {"off", false}, {"!off", true}, {"absent", false}, {"!absent", true},
		{`absent==""`, true}, {`absent!=""`, false}, {"absent!=x", true}, {"absent>=0", false}, {"absent<5", false}, {"!(absent<5)", true},
		{"version>=1", false}, {"version==1.2.3", true},
		{`(gpu || zone=="a b") && !arm`, true}, {`zone=='a b'`, true}, {`zone=="a \"b"`, false},
		{"wall-wasm && site.eu/row==x", true},
		{"absent || gpu && off", false}, {"gpu || absent && off", true}, {"(gpu || absent) && off", false},
		{"!!gpu", true}, {"!(gpu && off)", true}, {"cores>=-1", true},
	}
	for _, tt := range tests {
		w, err := ParseWhere(tt.where)
		if err != nil {
			t.Errorf("ParseWhere(%q): %v", tt.where, err)
			continue
		}
		if got := w.Match(whereFacts); got != tt.want {
			t.Errorf("%q matches: got %t, want %t", tt.where, got, tt.want)
		}
		if missed := w.Mismatch(whereFacts); (missed == "") != tt.want {
			t.Errorf("%q: Mismatch %q does not agree with Match %t", tt.where, missed, tt.want)
		}
	}
}

func TestWhereMismatch(t *testing.T) {
	tests := []struct{ where, want string }{
		{"arch==amd64 && zone==attic", `zone==attic, but zone is "a b"`},
		{"cores>=8", "cores>=8, but cores is 4"},
		{"memory >= 32GiB", "memory>=32GiB, but memory is 16GiB"},
		{"absent==x", "absent==x, but absent is not set"},
		{"tpu || cores>8", "tpu, but tpu is not set; and cores>8, but cores is 4"},
		{"!gpu", `!(gpu), but gpu is "true"`},
		{"!(absent || gpu)", `!(gpu), but gpu is "true"`},
		{"!(gpu && cores==4)", `!(gpu), but gpu is "true"; and !(cores==4), but cores is 4`},
	}
	for _, tt := range tests {
		w, err := ParseWhere(tt.where)
		if err != nil {
			t.Fatalf("ParseWhere(%q): %v", tt.where, err)
		}
		if got := w.Mismatch(whereFacts); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.where, got, tt.want)
		}
	}
}

func TestWhereErrors(t *testing.T) {
	tests := []struct{ where, want string }{
		{"arch=amd64", "column 5: write == for ="},
		{"a & b", "column 3: write && for &"},
		{"a | b", "column 3: write || for |"},
		{"a and b", `column 3: write && for "and"`},
		{"a or b", `column 3: write || for "or"`},
		{"not a", `column 1: write ! for "not"`},
		{"8<=cores", `column 1: "8" is not a fact's name`},
		{"cores>=many", "column 8: >= compares numbers"},
		{`cores>="8"`, `column 8: >= compares numbers`},
		{"zone==", "column 7: want a value after zone=="},
		{"zone==a b", "column 9: want && or || before b; quote"},
		{"(a", "column 1: this ( is not closed"},
		{"a)", "column 2: this ) has no ( before it"},
		{"a &&", "column 5: the condition ends too early"},
		{"&& a", "column 1: want a fact's name before &&"},
		{`"a"==b`, "column 1: a fact's name is not quoted"},
		{`a=="b`, "column 4: this \" is not closed"},
		{"1<cores<9", `"1" is not`},
		{"cores>1<9", "column 8: one comparison at a time"},
		{"é==ö && =", "column 9: write == for ="},
		{"a\x01", "column 2: '\\x01' does not belong"},
		{"a\xff", "not valid UTF-8"},
		{strings.Repeat("(", 33) + "a", "column 33: more than 32"},
		{strings.Repeat("!", 40) + "a", "column 33: more than 32"},
		{strings.Repeat("a", MaxWhere+1), "1025 bytes long, at most 1024"},
		{"()", "column 2: want a fact's name before )"},
		{"(a b)", "column 4: want && or ||"},
	}
	for _, tt := range tests {
		w, err := ParseWhere(tt.where)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseWhere(%q): got %v, %v; want an error with %q", tt.where, w, err, tt.want)
		}
	}
}

func TestWhereKeys(t *testing.T) {
	w, err := ParseWhere("b==1 && (a || !(c<2)) && b")
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Keys(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %q", got)
	}
	if got := (Where{}).Keys(); len(got) != 0 {
		t.Errorf("the zero Where has keys %q", got)
	}
	if !(Where{}).Match(nil) {
		t.Error("the zero Where does not match everything")
	}
}

func TestMachineFacts(t *testing.T) {
	m := Machine{
		Name: "shed", Arch: "arm64", OS: "linux", SMT: 1, Version: "0.1", Declared: true,
		Total: Capacity{Cores: 4, Threads: 4, Memory: 8 << 30, Disk: 1 << 40, Slots: 8},
		Kinds: []Kind{Wasm}, Walls: []string{"namespaces"}, Attests: []string{"tpm"},
		Labels: map[string]string{"zone": "attic", "arch": "quantum", "wall-tee": "true", "kind-vm": "true", "attest-snp": "true"},
	}
	w, err := ParseWhere("arch==arm64 && os==linux && name==shed && cores==4 && threads==4 && smt==1 && memory==8GiB && disk==1TiB " +
		"&& slots==8 && declared && version==0.1 && kind-wasm && wall-namespaces && attest-tpm && zone==attic && !wall-tee && !kind-vm && !attest-snp")
	if err != nil {
		t.Fatal(err)
	}
	if missed := w.Mismatch(m.Facts()); missed != "" {
		t.Error(missed)
	}
}

func FuzzParseWhere(f *testing.F) {
	for _, seed := range []string{
		"", "arch==amd64 && zone!=attic", "cores>=8", "memory>=16GiB", `(gpu || zone=="a b") && !arm`, `a=='\''`,
		"a=b", "((((", "!!!!a", "x<1.5e3", "a==\"\\\\\"", "é>=-1kib||ö", "a==" + strings.Repeat("9", 40), "a>=1" + strings.Repeat(" ", 1000),
	} {
		f.Add(seed, "4")
	}
	f.Fuzz(func(t *testing.T, s, fact string) {
		w, err := ParseWhere(s)
		if err != nil {
			if w.root != nil {
				t.Errorf("an error and a condition")
			}
			return
		}
		facts := map[string]string{}
		for _, key := range w.Keys() {
			facts[key] = fact
		}
		missed := w.Mismatch(facts)
		if (missed == "") != w.Match(facts) {
			t.Errorf("Mismatch %q does not agree with Match", missed)
		}
		if len(missed) > maxWhyMissed {
			t.Errorf("Mismatch is %d bytes long", len(missed))
		}
		if utf8.ValidString(fact) && !utf8.ValidString(missed) {
			t.Errorf("Mismatch %q is not valid UTF-8", missed)
		}
		if again, err := ParseWhere(w.String()); err != nil || again.Match(facts) != w.Match(facts) {
			t.Errorf("%q does not parse the same again: %v", w, err)
		}
	})
}
