;; Asks for more memory than it gets, and then does what its first argument's first letter says: `d` divides by zero, `u` is
;; unreachable, `x` exits with 2, `g` grows by a page before it is unreachable.
(module
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $letter (mut i32) (i32.const 0))
  (func (export "_start")
    (drop (call $args_get (i32.const 0) (i32.const 1024)))
    (global.set $letter (i32.load8_u (i32.load (i32.const 4))))
    ;; 80 MiB.
    (if (i32.eq (memory.grow (i32.const 1280)) (i32.const -1))
      (then
        (if (i32.eq (global.get $letter) (i32.const 100)) (then (drop (i32.div_u (i32.const 1) (i32.const 0)))))
        (if (i32.eq (global.get $letter) (i32.const 120)) (then (call $exit (i32.const 2))))
        (if (i32.eq (global.get $letter) (i32.const 103)) (then (drop (memory.grow (i32.const 1)))))
        unreachable))))
