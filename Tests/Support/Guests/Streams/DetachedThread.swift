// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Runs `body` on a thread of its own, which nobody joins.
func detachThread(_ body: @escaping @Sendable () -> Void) {
    final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    // SAFETY: the reference is retained here once and released by the thread that takes it.
    let context = unsafe Unmanaged.passRetained(Body(body)).toOpaque()
    var thread = pthread_t()
    let code = unsafe pthread_create(
        &thread, nil,
        { context in
            // SAFETY: the context is the one passed below, taken once.
            if let context = unsafe context {
                unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
            }
            return nil
        }, context)
    precondition(code == 0, "pthread_create: \(String(describingError: code))")
    pthread_detach(thread)
}
