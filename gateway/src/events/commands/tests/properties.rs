//! Whatever happens, and in whatever order, the promises hold.

use proptest::prelude::*;
use proptest::sample::Index;

use super::model::OnDisk;
use super::world::{Step, USERS, VEHICLES, World};
use super::*;
use crate::limits::RESULT_KEPT_MS;

fn step() -> impl Strategy<Value = Step> {
    let (user, vehicle) = (0..USERS, 1..=VEHICLES);
    let ttl_ms = prop_oneof![3 => 1..60u32, 2 => 60..5_000u32];
    let what = prop_oneof![12 => Just(0u8), 1 => Just(1)];
    prop_oneof![
        10 => (user.clone(), 1..40u64, vehicle.clone(), what, ttl_ms).prop_map(
            |(user, command_id, vehicle, what, ttl_ms)| Step::Submit {
                user, command_id, vehicle: vehicle.min(1 + command_id as u32 % 3), what, ttl_ms
            }
        ),
        3 => vehicle.clone().prop_map(Step::VehicleComes),
        1 => vehicle.clone().prop_map(Step::VehicleGoes),
        4 => (vehicle, any::<Index>()).prop_map(|(v, of)| Step::Answer(v, of)),
        2 => user.clone().prop_map(Step::UserComes),
        1 => (user, any::<Index>()).prop_map(|(u, of)| Step::UserGoes(u, of)),
        4 => (0..40u64).prop_map(Step::Wait),
        // Longer than a result is kept, with some left to go.
        1 => prop_oneof![Just(1_200_000u64), Just(2_400_000)].prop_map(Step::Wait),
        6 => (0..30usize).prop_map(Step::CarryOut),
        1 => Just(Step::DiskFails),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// In order, at least once, never too late, and told.
    #[test]
    fn commands_keep_their_promises(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new(Bounds { per_vehicle_max: 11, commands_max: 200, ..bounds() });
        world.step(Step::UserComes(0));
        for (at, step) in steps.into_iter().enumerate() {
            world.step(step);
            check(&world.commands);
            if at % 10 == 0 {
                world.settle();
            }
        }
        // Everybody comes, and answers.
        (0..USERS).for_each(|user| world.step(Step::UserComes(user)));
        (1..=VEHICLES).for_each(|vehicle| world.step(Step::VehicleComes(vehicle)));
        world.settle();
        for vehicle in 1..=VEHICLES {
            while let Some(&number) = world.model.line(vehicle).first() {
                world.answer(vehicle, number);
                world.settle();
            }
        }
        prop_assert_eq!(world.commands.waiting(), 0);
        for case in &world.model.cases {
            prop_assert!(case.acknowledged || case.on_disk != OnDisk::No, "{:?}", case);
            prop_assert!(case.told.0 >= 1, "nobody was told: {:?}", case);
        }
        world.now_ms += RESULT_KEPT_MS;
        world.settle();
        prop_assert!(world.disk.is_empty() && world.commands.entries.is_empty());
    }
}
