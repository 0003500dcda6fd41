package wire

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// messages lists a value of every type that crosses the wire or is signed.
func messages() []any {
	return []any{
		&Submit{}, &Submitted{}, &Hold{}, &Ack{}, &Chunk{}, &OfferMsg{}, &OfferAnswer{}, &CallMsg{},
		&CallAnswer{}, &ReleaseMsg{}, &AwardMsg{}, &SignedAward{}, &AwardAnswer{}, &TakeMsg{}, &Taken{},
		&ReturnMsg{}, &CloseMsg{}, &Statement{}, &Closed{}, &DoneMsg{}, &RenewMsg{}, &Renewed{}, &HaltMsg{}, &SuitedMsg{},
		&SuitedOffers{}, &MemberMsg{}, &MemberAnswer{}, &QueryMsg{}, &QueryAnswer{}, &StopMsg{}, &AttachMsg{}, &LiveMsg{}, &Live{}, &PictureMsg{},
		&AttestMsg{}, &AttestAnswer{}, &ActivateMsg{}, &ActivateAnswer{}, &workload.Appraisal{},
		&workload.Picture{},
		&workload.Spec{}, &workload.TaskTable{}, &workload.Offer{}, &workload.Bid{}, &workload.Segment{},
	}
}

// TestEveryFieldIsBounded refuses a message type with a string, list, byte
// slice or map that has no `max` tag.
func TestEveryFieldIsBounded(t *testing.T) {
	for _, m := range messages() {
		for _, missing := range unbounded(reflect.TypeOf(m).Elem()) {
			t.Errorf("%T: %s has no max tag", m, missing)
		}
	}
}

func unbounded(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		ft := f.Type
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		_, tagged := f.Tag.Lookup("max")
		switch ft.Kind() {
		case reflect.String, reflect.Slice, reflect.Map:
			if !tagged {
				out = append(out, f.Name)
			}
			if ft.Kind() != reflect.String && ft.Elem().Kind() == reflect.Struct {
				out = append(out, unbounded(ft.Elem())...)
			}
		case reflect.Struct:
			for _, inner := range unbounded(ft) {
				out = append(out, f.Name+"."+inner)
			}
		}
		if key := f.Tag.Get("cbor"); !strings.Contains(key, "keyasint") {
			out = append(out, f.Name+" (no integer cbor key)")
		}
	}
	return out
}

func TestRoundTripIsCanonical(t *testing.T) {
	spec := workload.DefaultSpec()
	spec.Labels = map[string]string{"b": "2", "a": "1", "c": "3"}
	spec.Env = map[string]string{"X": "1", "A": "2"}
	first := MustMarshal(spec)
	var back workload.Spec
	if err := Unmarshal(first, &back); err != nil {
		t.Fatal(err)
	}
	if second := MustMarshal(back); string(first) != string(second) {
		t.Errorf("encoding changed on the way: %x then %x", first, second)
	}
	if !reflect.DeepEqual(spec, back) {
		t.Errorf("got %+v, want %+v", back, spec)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	long := workload.Program{Name: strings.Repeat("n", 256)}
	for name, c := range map[string]struct {
		data []byte
		into any
		says string
	}{
		"empty":           {nil, &Submitted{}, "EOF"},
		"trailing bytes":  {append(MustMarshal(Ack{}), 0), &Ack{}, "extraneous"},
		"unknown field":   {[]byte{0xa1, 0x18, 0x63, 0x01}, &Ack{}, "unknown field"},
		"wrong type":      {MustMarshal(map[int]string{1: "x"}), &QueryAnswer{}, "cannot unmarshal"},
		"long field":      {MustMarshal(long), &workload.Program{}, "Name: 256 long, at most 255"},
		"long nested":     {MustMarshal(workload.Spec{Program: long}), &workload.Spec{}, "Name: 256 long, at most 255"},
		"duplicate key":   {[]byte{0xa2, 0x01, 0x01, 0x01, 0x02}, &TakeMsg{}, "duplicate"},
		"indefinite":      {[]byte{0xbf, 0xff}, &Ack{}, "indefinite"},
		"too many":        {MustMarshal(AwardAnswer{Reasons: make([]workload.Reason, 17)}), &AwardAnswer{}, "17 long, at most 16"},
		"string elements": {MustMarshal(workload.Task{Args: []string{strings.Repeat("a", maxElement+1)}}), &workload.Task{}, "an element is"},
	} {
		err := Unmarshal(c.data, c.into)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %v, want a malformed message that says %q", name, err, c.says)
		}
	}
}

// FuzzUnmarshal feeds junk to the decoder of every message: it must not panic,
// and what it accepts must encode to a value that decodes alike.
func FuzzUnmarshal(f *testing.F) {
	for i, m := range messages() {
		f.Add(uint8(i), MustMarshal(m))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		all := messages()
		m := all[int(which)%len(all)]
		if Unmarshal(data, m) != nil {
			return
		}
		again := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := Unmarshal(MustMarshal(m), again); err != nil {
			t.Fatalf("%T: accepted once, refused again: %v", m, err)
		}
	})
}
