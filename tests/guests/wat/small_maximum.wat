;; Needs more memory than it declares to be its most.
(module
  (memory (export "memory") 1 16)
  (func (export "_start")
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
      (then unreachable))))
