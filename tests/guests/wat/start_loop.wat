;; A component that never gets as far as its entry: it loops while it is instantiated.
(component
  (core module $loops
    (func $loop (loop $again (br $again)))
    (start $loop)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $loops))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $entry (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $entry)))
