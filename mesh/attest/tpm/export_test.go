package tpm

// Parsers for tests of the outside.
var (
	ParseQuote   = parseQuote
	ParsePublic  = parsePublic
	ReplayFiles  = replayFiles
	ReplayBoot   = replayBoot
	VerifyBoot   = verifyBoot
	ExtendForLog = extend
)

// Of a boot log that was replayed.
func (b *boot) PCR(i int) [32]byte { return b.pcrs[i] }
func (b *boot) Events() int        { return b.events }
func (b *boot) Secure() *bool      { return b.secure }
