package workload

import (
	"strings"
	"testing"
)

// TestMeasurementsAreOfTheirLevel: what no machine of a level could ever show is
// refused before anything waits for it.
func TestMeasurementsAreOfTheirLevel(t *testing.T) {
	value := "=" + strings.Repeat("ab", 32)
	for _, tt := range []struct {
		level Level
		name  string
		want  string // of the error, or ""
	}{
		{LevelTPM, "pcr0", ""}, {LevelTPM, "pcr15", ""}, {LevelTPM, "pcr16", "a tpm shows pcr0 to pcr15"}, {LevelTPM, "pcr07", "pcr0 to pcr15"},
		{LevelTPM, "7", "pcr0 to pcr15"}, {LevelTPM, "launch", "pcr0 to pcr15"},
		{LevelSNP, "launch", ""}, {LevelSNP, "mrtd", "snp shows launch, host-data"},
		{LevelTDX, "rtmr3", ""}, {LevelTDX, "rtmr4", "tdx shows mrtd"},
		{LevelSGX, "mrsigner", ""}, {LevelSGX, "foo", `require.measurements: "foo": sgx shows mrenclave, mrsigner`},
	} {
		err := (&Require{Level: tt.level, Measurements: []string{tt.name + value}}).Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %s: %v, want %q", tt.name, tt.level, err, tt.want)
		}
	}
}
