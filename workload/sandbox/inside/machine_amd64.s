#include "textflag.h"

// func rawVfork(flags uintptr) (pid uintptr)
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ	flags+0(FP), DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	$56, AX	// SYS_clone
	POPQ	R12	// the return address, which the child overwrites on the stack
	SYSCALL
	PUSHQ	R12
	MOVQ	AX, pid+8(FP)
	RET
