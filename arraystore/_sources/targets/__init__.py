"""What comes with each image: labels and other targets, and the columns that become them."""
