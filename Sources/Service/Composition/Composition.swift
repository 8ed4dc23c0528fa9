// SPDX-License-Identifier: Apache-2.0

/// Which devices a service has, and how each is made.
///
/// A third device model is one more case here.
enum Composition {
    /// The builders of the devices that the configuration names.
    static func builders(for configuration: ServiceConfiguration) -> [DeviceBuilder] {
        []
    }
}
