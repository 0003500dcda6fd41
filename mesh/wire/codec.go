// Package wire is the one encoding of everything that crosses a boundary: the
// messages between nodes, the entries and snapshots of a ledger, and the
// payloads that are signed. It is CBOR (RFC 8949) in its core deterministic
// form, so that equal values have equal bytes and a signature or a hash of the
// bytes is one of the value. docs/decisions explains why it is not protobuf.
//
// Nothing is decoded unbounded: a message has a size limit, the decoder has
// limits on nesting and elements, and every field of variable length has a
// bound of its own in its `max` tag.
package wire

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// ErrMalformed is returned when bytes are not a valid value of the wanted
// type: bad CBOR, an unknown field, a field over its bound or of the wrong type.
var ErrMalformed = errors.New("malformed message")

var (
	encMode = mustEnc()
	decMode = mustDec(1 << 16) // the most elements that a list of a message has
	decBulk = mustDec(1 << 20)
)

func mustEnc() cbor.EncMode {
	opts := cbor.CoreDetEncOptions()
	m, err := opts.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}

func mustDec(elements int) cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   24,
		MaxArrayElements:  elements,
		MaxMapPairs:       elements,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// Marshal returns the canonical encoding of v.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// MustMarshal is Marshal for our own message types, which always encode; it
// panics on a type that cannot be.
func MustMarshal(v any) []byte {
	b, err := Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: encode %T: %v", v, err))
	}
	return b
}

// Unmarshal decodes exactly one value into v, a pointer to a struct, and checks
// every bound. The error wraps ErrMalformed and names the field.
func Unmarshal(b []byte, v any) error { return unmarshal(decMode, b, v) }

// UnmarshalFirst is Unmarshal of a value with something behind it, which it returns.
func UnmarshalFirst(b []byte, v any) (rest []byte, err error) {
	rest, err = decMode.UnmarshalFirst(b, v)
	return rest, bounded(v, err)
}

// UnmarshalBulk is Unmarshal for what is no message: a snapshot of a ledger or a
// table of tasks, whose lists have up to 2^20 elements.
func UnmarshalBulk(b []byte, v any) error { return unmarshal(decBulk, b, v) }

func unmarshal(mode cbor.DecMode, b []byte, v any) error {
	return bounded(v, mode.Unmarshal(b, v))
}

// bounded checks what was decoded, and how that went.
func bounded(v any, err error) error {
	if err != nil {
		return fmt.Errorf("%T: %w: %.200s", v, ErrMalformed, err.Error())
	}
	if err := CheckBounds(v); err != nil {
		return fmt.Errorf("%T: %w: %w", v, ErrMalformed, err)
	}
	return nil
}

// CheckBounds returns an error that names the first field of v, a pointer to a
// struct, that is longer than its `max` tag.
func CheckBounds(v any) error {
	return planFor(reflect.TypeOf(v).Elem()).check(reflect.ValueOf(v).Elem())
}

// plan is what to check in a struct type: built once per type.
type plan struct{ fields []fieldPlan }

type fieldPlan struct {
	index int
	name  string
	max   int   // -1 when the field has no length
	each  *plan // for a struct, pointer or list of structs
	str   int   // bound on each element of a list or map of strings; -1 when there is none
}

// maxElement bounds each string of a list or map of strings, in bytes.
const maxElement = 64 << 10

var plans sync.Map // reflect.Type -> *plan

func planFor(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{}
	for i := range t.NumField() {
		if f, ok := planField(t.Field(i), i); ok {
			p.fields = append(p.fields, f)
		}
	}
	plans.Store(t, p)
	return p
}

func planField(f reflect.StructField, index int) (fieldPlan, bool) {
	fp := fieldPlan{index: index, name: f.Name, max: -1, str: -1}
	if tag, ok := f.Tag.Lookup("max"); ok {
		n, err := strconv.Atoi(tag)
		if err != nil {
			panic(fmt.Sprintf("wire: %s: max tag %q is not a number", f.Name, tag))
		}
		fp.max = n
	}
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		fp.each = planFor(t)
	case reflect.Slice, reflect.Map:
		elem := t.Elem()
		for elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		switch elem.Kind() {
		case reflect.Struct:
			fp.each = planFor(elem)
		case reflect.String:
			fp.str = maxElement
		}
	}
	useful := fp.max >= 0 || fp.str >= 0 || fp.each != nil && len(fp.each.fields) > 0
	return fp, useful
}

func (p *plan) check(v reflect.Value) error {
	for _, f := range p.fields {
		if err := f.check(v.Field(f.index)); err != nil {
			return err
		}
	}
	return nil
}

func (f *fieldPlan) check(v reflect.Value) error {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map:
		if f.max >= 0 && v.Len() > f.max {
			return fmt.Errorf("%s: %d long, at most %d", f.name, v.Len(), f.max)
		}
	case reflect.Struct:
		return f.each.check(v)
	}
	switch v.Kind() {
	case reflect.Slice:
		return f.checkList(v)
	case reflect.Map:
		return f.checkMap(v)
	}
	return nil
}

func (f *fieldPlan) checkList(v reflect.Value) error {
	if f.each == nil && f.str < 0 {
		return nil
	}
	for i := range v.Len() {
		if err := f.checkElement(v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (f *fieldPlan) checkMap(v reflect.Value) error {
	for it := v.MapRange(); it.Next(); {
		if k := it.Key(); k.Kind() == reflect.String && k.Len() > maxElement {
			return fmt.Errorf("%s: a key is %d long, at most %d", f.name, k.Len(), maxElement)
		}
		if err := f.checkElement(it.Value()); err != nil {
			return err
		}
	}
	return nil
}

func (f *fieldPlan) checkElement(v reflect.Value) error {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return fmt.Errorf("%s: an element is null", f.name)
		}
		v = v.Elem()
	}
	if f.str >= 0 {
		if v.Len() > f.str {
			return fmt.Errorf("%s: an element is %d long, at most %d", f.name, v.Len(), f.str)
		}
		return nil
	}
	if f.each == nil {
		return nil
	}
	return f.each.check(v)
}
